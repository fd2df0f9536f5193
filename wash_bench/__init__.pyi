from wash_bench.api.coupling import Coupling as Coupling
from wash_bench.api.networks import barrier as barrier
from wash_bench.api.networks import merge as merge
from wash_bench.api.reports import figures as figures
from wash_bench.api.reports import load as load
from wash_bench.api.reports import table as table
from wash_bench.api.runs import plan as plan
from wash_bench.api.runs import run as run

__version__: str
