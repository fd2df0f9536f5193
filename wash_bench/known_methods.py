"""What is said of single methods outside their files; here alone, so that nobody else names one.

Reports read it: a method's class would bring torch along.
"""

# A run's methods by default, and the order of a report's rows.
DEFAULT_METHODS = ("wash", "wash-opt", "papa", "dart", "greedy-soup", "naive-ensemble")
INDEPENDENT = "naive-ensemble"
"""The method whose members never meet."""
DEFAULT_BASELINE = "best-member"
"""The baseline of a report that names none, where the table has this method."""
TRAFFIC_REFERENCE = "papa"
"""The method to whose traffic the others' is put in proportion."""
# By method, colour and marker in figures. The colours are those of Okabe & Ito, "Color Universal
# Design" (2008): they differ under the common colour blindnesses.
CURVES = {
    "wash": ("#0072B2", "o"),
    "wash-opt": ("#56B4E9", "s"),
    "papa": ("#D55E00", "^"),
    "dart": ("#009E73", "D"),
    "greedy-soup": ("#CC79A7", "P"),
    "naive-ensemble": ("#333333", "X"),
}
