"""What each verb does once its command line is understood: cli/VERB.py imports its half from here, when it is used."""
