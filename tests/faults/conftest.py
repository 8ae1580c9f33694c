"""What the tests here share is imported by them, not collected."""

collect_ignore = ["fake_cells.py", "hostile.py", "naive_store.py", "trial.py", "zygote.py"]
