"""Export to one C file that needs no library but that of C."""
