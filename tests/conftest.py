"""Where there is no GPU, Triton's kernels run in its interpreter: it asks for that when it is first imported, and
torch may import it."""
import os
import shutil

if shutil.which('nvidia-smi') is None:
    os.environ['TRITON_INTERPRET'] = '1'
