/* The cuBLAS headers include it for types that no prototype used here needs. */
#pragma once
