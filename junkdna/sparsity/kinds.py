"""The ways to hold removed weights, with the paper's names of the transfers (section 2.2 of its GLUE experiments)."""

KINDS = {"sparse": "sparse transfer", "frozen": "dense transfer with freezing", "free": "sparse-to-dense transfer"}
