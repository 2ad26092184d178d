"""A module that test_resume_keys.py lets a run import."""
