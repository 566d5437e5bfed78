"""What `mmdet-ft NAME` and tools/NAME.py do.

    main.py         finds the command, reads its arguments, then imports and runs its body
    arguments/NAME  what is typed: `add_arguments`, `check_arguments`; imported without torch
    NAME            what is done: `main(args)`
    parsing.py      parsers with a short help
"""
