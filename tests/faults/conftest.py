"""What the tests here share is imported by them, not collected."""

collect_ignore = [
    "cluster_run.py",
    "cluster_trial.py",
    "fake_cells.py",
    "hostile.py",
    "naive_store.py",
    "trial.py",
    "zygote.py",
]
