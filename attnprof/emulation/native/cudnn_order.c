/* libcudnn: the order of plans that are compared by time. With torch.backends.cudnn.benchmark PyTorch makes all plans
   that cuDNN offers for an operation, runs each and keeps the fastest (get_plans_from_find,
   aten/src/ATen/native/cudnn/Conv_v8.cpp; of plans that take the same time, time_sorted_plan of cudnn-frontend keeps
   only the first). Here the time of a plan is its place among those that it is compared with. ATTNPROF_CUDNN_PLANS
   chooses the order: `first` is that of cuDNN's heuristics, which list what they expect to be fastest first; `least`
   and `largest` go by the workspace. */
#include "cudnn_order.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Plan {
  struct Plan *next;
  void *descriptor;
  unsigned long group, serial;
  int64_t workspace_bytes;
} Plan;

static Plan *plans;
static unsigned long groups, made;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Plans that a thread made without running one in between are compared with each other. */
static __thread unsigned long group, compared;
static __thread int closed = 1;

void order_add(void *descriptor) {
  Plan *plan = malloc(sizeof *plan);
  pthread_mutex_lock(&lock);
  if (closed) group = ++groups;
  closed = 0;
  *plan = (Plan){plans, descriptor, group, made++, 0};
  plans = plan;
  pthread_mutex_unlock(&lock);
}

void order_remove(void *descriptor) {
  pthread_mutex_lock(&lock);
  for (Plan **at = &plans; *at; at = &(*at)->next) {
    if ((*at)->descriptor != descriptor) continue;
    Plan *found = *at;
    *at = found->next;
    free(found);
    break;
  }
  pthread_mutex_unlock(&lock);
}

void order_learn_workspace(void *descriptor, int64_t bytes) {
  pthread_mutex_lock(&lock);
  for (Plan *plan = plans; plan; plan = plan->next)
    if (plan->descriptor == descriptor) plan->workspace_bytes = bytes;
  pthread_mutex_unlock(&lock);
}

static enum { FIRST, LEAST, LARGEST } order;
static const char *const FASTEST[] = {"the plan that cuDNN's heuristics name first", "the plan of the least workspace",
                                      "the plan of the largest workspace"};

__attribute__((constructor)) static void read_order(void) {
  const char *wanted = getenv("ATTNPROF_CUDNN_PLANS");
  order = !wanted ? FIRST : !strcmp(wanted, "least") ? LEAST : !strcmp(wanted, "largest") ? LARGEST : FIRST;
}

/* Return 1 if `a` is to be faster than `b`. */
static int before(const Plan *a, const Plan *b) {
  int64_t more = a->workspace_bytes - b->workspace_bytes;
  if (order == FIRST || !more) return a->serial < b->serial;
  return order == LEAST ? more < 0 : more > 0;
}

void order_run(void *descriptor) {
  unsigned place = 0, rivals = 0;
  pthread_mutex_lock(&lock);
  closed = 1;
  Plan *run = plans;
  while (run && run->descriptor != descriptor) run = run->next;
  for (const Plan *plan = plans; run && plan; plan = plan->next) {
    if (plan == run || plan->group != run->group) continue;
    rivals++;
    place += before(plan, run);
  }
  int begins = rivals && run->group != compared;
  if (begins) compared = run->group;
  pthread_mutex_unlock(&lock);
  emu_tick(1 + place);
  emu_plan_ran(rivals > 0, begins);
  if (!begins) return;
  char line[256];
  snprintf(line, sizeof line,
           "%s is the fastest (for cudnn.benchmark a real card times cuDNN's plans, and may choose another)",
           FASTEST[order]);
  emu_assume(line);
}
