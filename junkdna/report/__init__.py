"""A tree of runs -> tables, figures, claims and one HTML page:  python -m junkdna.report RUNS... [--out DIR]

``collect`` reads the runs and knows no family: axes, roles, metrics and treatment stand in each record. ``summary``
makes points of curves from them and reports what is missing. ``folds`` averages the folds of a task before that, and
``differences`` reports what differs. ``claims`` puts numbers and intervals on the paper's statements. ``published``
holds the paper's own curves. ``tables``, ``figures`` and ``page`` write.
"""
