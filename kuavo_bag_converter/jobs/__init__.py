"""Many bags to one dataset: what a run keeps, resumes and reports."""
