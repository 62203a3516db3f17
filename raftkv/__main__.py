"""`python -m raftkv`: the same as the command `raftkv`.

Owns nothing but the entry point, so that a checkout without an installed
script can be run too. The commands are in raftkv/cli.
"""

from raftkv.cli.main import main

if __name__ == "__main__":
    main()
