/* The order in which cuDNN's plans win when a program compares their times. */
#pragma once
#include "emulator.h"

void order_add(void *descriptor); /* of a new plan; `order_remove` when it is destroyed */
void order_remove(void *descriptor);
void order_learn_workspace(void *descriptor, int64_t bytes);
void order_run(void *descriptor); /* lets the device's clock run for the plan's time */
