"""A tree of runs -> tables, figures, claims and one HTML page:  python -m junkdna.report RUNS... [--out DIR]

``collect`` reads the runs, ``summary`` makes points of curves from them and says what is missing or differs, ``claims`` puts
numbers and intervals on the paper's statements, ``published`` holds the paper's own curves; ``tables``, ``figures`` and ``page``
write.
"""
