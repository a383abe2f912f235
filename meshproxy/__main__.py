"""`python -m meshproxy` is the `meshproxy` command."""

from meshproxy.cli.main import main

if __name__ == "__main__":
    main()
