"""Counts the documents created in a window, again and again, and prints its own peak memory.

python counting.py MONGO_URL BEGIN END TIMES
"""

import resource
import sys

from otel_novu.settings import Secret
from otel_novu.sources.novu_db import NovuDatabase

url, begin, end, times = sys.argv[1:]
database = NovuDatabase(Secret(url), 60)
for _ in range(int(times)):
    database.count_created("notifications", int(begin), int(end))
database.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
