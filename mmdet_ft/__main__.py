"""`python -m mmdet_ft` is `mmdet-ft`."""
from mmdet_ft.commands.main import main

if __name__ == '__main__':
    main()
