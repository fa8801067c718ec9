/* Empty on purpose: cuBLAS's headers include this file, but no prototype used here needs its types. */
#pragma once
