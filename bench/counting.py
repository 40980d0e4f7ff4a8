"""Counts the documents created in a window, again and again, and prints its own peak memory.

python counting.py MONGO_URL BEGIN END TIMES
"""

import re
import sys
from pathlib import Path

from otel_novu.settings import Secret
from otel_novu.sources.novu_db import NovuDatabase

url, begin, end, times = sys.argv[1:]
database = NovuDatabase(Secret(url), 60)
for _ in range(int(times)):
    database.count_created("notifications", int(begin), int(end))
database.close()
# Not `getrusage`, whose peak begins with that of the process that started this one.
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
if peak is None:
    sys.exit("the kernel does not tell the peak of memory")
print(int(peak[1]) * 1024)
