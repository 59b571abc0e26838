"""The command line: python -m seecoder {train, evaluate}."""

from .training import main

if __name__ == "__main__":
    main()
