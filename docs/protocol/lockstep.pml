/* The lockstep protocol: waves and steps of the ranks of a mixture-of-experts model. README.md, beside
 * this file, says in words what it does and why it cannot hang; this model is checked exhaustively by
 * tests/protocol. Names and rules are those of the C++:
 *
 *   coordinator/wave_state.{h,cc}      WaveState, the single writer of waves     -> the process Coordinator
 *   coordinator/wave_delivery.h        a start is repeated until all are in      -> fly, deliver, lose
 *   engine_core/lockstep/lockstep.cc   Lockstep, when a rank may run a step      -> the processes Rank
 *   engine_core/lockstep/step_record.h combine() and decide()                    -> agree()
 *   proto/member/member_state.cc       what a rank says of where it stands       -> say, say_again
 *
 * Time is abstract: whatever can happen may happen now or later, in any order. What a faulty link does
 * is in that order: a StartWave is delivered late, after a later one, or never; a rank that is cut off
 * is one that the coordinator drops while it goes on.
 *
 * Repeats are sent only where they can change something, and faults, work and pauses are bounded: so
 * every run comes to rest, and "nothing is stranded" is an assertion about that state (check_rest).
 *
 * Bounds, by -D:   WORK arrivals, each a step of work     ABORTS  requests of a rank end at once
 *   KILLS of ranks   DROPS of ranks that live   CRASHES of the coordinator   LATE ranks not there at first
 *   LEAVES of ranks without work, for good
 *   PAUSES 1: a pause (keep), and then perhaps a resume    IN_FLIGHT reports of a rank on their way
 *   ASK_ONE  the pause is asked of rank 0 alone, the resume of rank 1: two front ends, each with its own ranks
 * Mistakes, each of which must be found: SEED_...; tests/protocol/protocol_test.py has the list.
 */
#ifndef WORK
#define WORK 2
#endif
#ifndef ABORTS
#define ABORTS 0
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef DROPS
#define DROPS 0
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LATE
#define LATE 0
#endif
#ifndef LEAVES
#define LEAVES 0
#endif
#ifndef PAUSES
#define PAUSES 0
#endif
/* To which ranks that may happen: to rank 0 alone where the others are like it. */
#ifndef KILLED
#define KILLED 1
#endif
#ifndef DROPPED
#define DROPPED 1
#endif
#ifndef LEAVING
#define LEAVING 1
#endif
#ifndef IN_FLIGHT
#define IN_FLIGHT 1
#endif

#define RANKS 3
#define ALL 7
#define BIT(i) (1 << (i))
#define IN(set, i) (((set) >> (i)) & 1)
#define WITHOUT(set, i) ((set) & (ALL - BIT(i)))
/* Wave numbers: a coordinator's are its own (wave_base()). */
#define BASE 16
#define WAVE_MAX 63

/* Lockstep::Phase. kReady is not a state of its own: a record is posted by the move that leads to it. */
#define kAsleep 0
#define kAgreeing 1
#define kRunning 2
#define kComputing 3 /* Running, all have come: it can end, whatever the others do. Only with SLOW_END. */
/* wire::WaveEventKind */
#define kStart 1
#define kComplete 2
#define kInWave 3
#define kLeaving 4
/* PauseWish: sequence * 2 + mode, so that numbers compare as wishes do; kNone is 0, kKeep is 1. */
#define MODE(wish) ((wish) & 1)
#define PAUSE 3
#define RESUME 4

typedef Record {
  byte wave;
  byte next;
  unsigned step : 4;
  unsigned has_work : 1;
  unsigned came : 1;  /* To the collective of this step. */
  unsigned own : 1;   /* With something to do in it. */
  unsigned seen : 3;  /* By whom: of a rank that is dead perhaps not by all. */
  unsigned group : 3; /* As this rank knew it. For assertions only. */
#if PAUSES
  byte pause;
#endif
}

typedef RankState {
  byte wave;
  byte next; /* pending_, 0: none; the newest that it was told of, as heard_ is. */
  byte next_abandons;
  unsigned next_ranks : 3;
  unsigned ranks : 3;
  unsigned step : 4;
  unsigned phase : 2;
  unsigned is_dummy : 1;
  unsigned owes_step : 1;
  unsigned work : 3;
  unsigned is_alive : 1;
  unsigned is_gone : 1; /* Dead or cut off, for ever. */
  unsigned leaves : 1;  /* Drains, and has no work. */
  unsigned has_told : 1; /* What it has said last of where it stands is true. */
  Record older;
  Record newest;
#if PAUSES
  byte pause;
  byte wish;
  unsigned untold : 1; /* The wish is not agreed. */
#endif
}
RankState r[RANKS];

/* The last two waves started, by whichever coordinator, and for whom their starts are on the way. */
typedef Start {
  byte wave;
  byte abandon_below;
  unsigned ranks : 3;
  unsigned fly : 3;
}
Start last;
Start before;

/* WaveState, and who is in the view: live (has said Hello), ready (as published); present: and does not leave. */
byte wave_;
byte abandon_below_;
unsigned is_up : 1 = 1;
unsigned has_begun_ : 1;
unsigned is_running_ : 1;
unsigned is_ours_ : 1;
unsigned is_settled_ : 1;
unsigned is_wanted_ : 1;
unsigned is_wanted_hard_ : 1;
unsigned leavers_ : 3;
unsigned awaited_ : 3;
unsigned live : 3;
unsigned ready : 3;
unsigned present_ : 3;
unsigned ranks_ : 3;
unsigned outside_ : 3;
unsigned life : 2;

chan reports[RANKS] = [IN_FLIGHT] of {byte, byte};

unsigned work_left : 3 = WORK;
unsigned aborts_left : 2 = ABORTS;
unsigned kills_left : 2 = KILLS;
unsigned drops_left : 2 = DROPS;
unsigned crashes_left : 2 = CRASHES;
unsigned leaves_left : 2 = LEAVES;
unsigned is_excused : 1; /* Work has ended or been paused between a record and its step. */
unsigned pause_stage : 3;
unsigned to_ask : 3;

hidden byte low;
hidden byte high;
hidden byte some;
hidden byte wish;
hidden byte j;

#if PAUSES
#define PAUSED(i) MODE(r[i].pause)
#else
#define PAUSED(i) 0
#endif
#if PAUSES && !defined(SEED_UNTOLD)
#define UNTOLD(i) r[i].untold
#else
#define UNTOLD(i) 0
#endif
#define HEARD(i) (r[i].next > r[i].wave -> r[i].next : r[i].wave)
#define CAN_COMPUTE(i) (r[i].work > 0 && !PAUSED(i))
#define IS_OUT(i) (r[i].wave && !IN(r[i].ranks, i))
#define STANDING(i) (r[i].phase != kAsleep || IS_OUT(i) -> (r[i].leaves -> kLeaving : kInWave) : \
                     (CAN_COMPUTE(i) || UNTOLD(i) -> kStart : kComplete))
#define IS_LOST(i) (r[i].next && r[i].wave < r[i].next_abandons)

/* ---- Lockstep ---- */

#define IS_OF(record, i) (record.wave == r[i].wave && record.step == r[i].step && IN(record.seen, i))
#define KNOWS(i, k) (IS_OF(r[k].newest, i) || IS_OF(r[k].older, i))
#define KNOWS_ALL(i) ((!IN(r[i].ranks, 0) || KNOWS(i, 0)) && (!IN(r[i].ranks, 1) || KNOWS(i, 1)) && \
                      (!IN(r[i].ranks, 2) || KNOWS(i, 2)))
#define CAME(i, k) ((IS_OF(r[k].newest, i) && r[k].newest.came) || (IS_OF(r[k].older, i) && r[k].older.came))
#define ALL_CAME(i) ((!IN(r[i].ranks, 0) || CAME(i, 0)) && (!IN(r[i].ranks, 1) || CAME(i, 1)) && \
                     (!IN(r[i].ranks, 2) || CAME(i, 2)))

inline copy_record(to, from) {
  to.wave = from.wave;
  to.next = from.next;
  to.step = from.step;
  to.has_work = from.has_work;
  to.came = from.came;
  to.own = from.own;
  to.seen = from.seen;
  to.group = from.group;
#if PAUSES
  to.pause = from.pause;
#endif
}

inline clear_record(record) {
  record.wave = 0;
  record.next = 0;
  record.step = 0;
  record.has_work = 0;
  record.came = 0;
  record.own = 0;
  record.seen = 0;
  record.group = 0;
#if PAUSES
  record.pause = 0;
#endif
}

inline post(i) {
  copy_record(r[i].older, r[i].newest);
  r[i].newest.wave = r[i].wave;
  r[i].newest.next = r[i].next;
  r[i].newest.step = r[i].step;
  r[i].newest.has_work = (CAN_COMPUTE(i) || r[i].owes_step);
  r[i].newest.came = 0;
  r[i].newest.own = 0;
  r[i].newest.seen = ALL;
  r[i].newest.group = r[i].ranks;
#if PAUSES
  r[i].newest.pause = r[i].wish;
#endif
  r[i].phase = kAgreeing;
}

inline enter_pending(i) {
  r[i].wave = r[i].next;
  r[i].ranks = r[i].next_ranks;
  r[i].next = 0;
  r[i].next_ranks = 0;
  r[i].next_abandons = 0;
  r[i].step = 1;
  r[i].has_told = 0;
#ifdef SEED_FORGET_WAVE
  clear_record(r[i].newest); /* And so its records of the wave before. */
#endif
  if
  :: IN(r[i].ranks, i) -> post(i);
  :: else ->
    assert(r[i].leaves);
    r[i].phase = kAsleep;
  fi
}

inline on_start(i, start) {
  r[i].next = start.wave;
  r[i].next_ranks = start.ranks;
  r[i].next_abandons = start.abandon_below;
  if
  :: r[i].phase == kAsleep || (r[i].phase == kAgreeing && IS_LOST(i)) -> enter_pending(i);
  :: else
  fi
}

inline take_in(record) {
  some = some | record.has_work;
  low = (record.next < low -> record.next : low);
  high = (record.next > high -> record.next : high);
#if PAUSES
  wish = (record.pause > wish -> record.pause : wish);
#endif
}

inline agree(i) {
  some = 0;
  low = 255;
  high = 0;
  wish = 0;
  for (j : 0 .. RANKS - 1) {
    if
    :: !IN(r[i].ranks, j)
    :: IN(r[i].ranks, j) && IS_OF(r[j].newest, i) -> take_in(r[j].newest);
    :: IN(r[i].ranks, j) && !IS_OF(r[j].newest, i) -> take_in(r[j].older);
    fi
  }
  j = 0;
#if PAUSES
  r[i].untold = (r[i].wish > wish);
  r[i].wish = (wish > r[i].wish -> wish : r[i].wish);
  r[i].pause = (wish > r[i].pause -> wish : r[i].pause);
#endif
  if
  :: low != 0 && low == high -> /* kSwitch */
    assert(r[i].next == low);
    enter_pending(i);
  :: (low == 0 || low != high) && some -> /* kRun */
    r[i].phase = kRunning;
    r[i].is_dummy = !(CAN_COMPUTE(i) || r[i].owes_step);
    r[i].newest.came = 1;
    r[i].newest.own = !r[i].is_dummy;
  :: (low == 0 || low != high) && !some -> /* kEnd */
    r[i].phase = kAsleep;
    r[i].has_told = 0;
#if PAUSES && !defined(SEED_WISH_AT_END)
    r[i].pause = r[i].wish;
#endif
    if
    :: r[i].next -> enter_pending(i);
    :: else
    fi
  fi
}

/* A step of two groups, and a step of a wave that others have left and made steps since. */
#define IS_STEP_OF_OTHERS(record, i) (record.wave == r[i].wave && record.came && record.group != r[i].ranks)
#ifdef STRICT_ORDER
#define IS_OVERTAKEN(record, i, k) (IN(r[i].ranks, k) && record.wave > r[i].wave && record.step > 1)
#else
#define IS_OVERTAKEN(record, i, k) \
  (IN(r[i].ranks, k) && record.wave > r[i].wave && record.step > 1 && IN(record.group, i))
#endif

/* Somebody has something to do in the step. */
inline check_work(i) {
  some = is_excused;
  for (j : 0 .. RANKS - 1) {
    some = some | (IS_OF(r[j].newest, i) && r[j].newest.own) | (IS_OF(r[j].older, i) && r[j].older.own);
  }
  j = 0;
  assert(some);
}

inline check_step(i) {
  for (j : 0 .. RANKS - 1) {
    assert(!IS_STEP_OF_OTHERS(r[j].newest, i) && !IS_STEP_OF_OTHERS(r[j].older, i));
    assert(!IS_OVERTAKEN(r[j].newest, i, j) && !IS_OVERTAKEN(r[j].older, i, j));
  }
  j = 0;
  assert(IN(r[i].ranks, i));
}

inline end_step(i) {
  check_step(i);
  if
  :: !r[i].is_dummy && r[i].work > 0 -> r[i].work--;
  :: else
  fi;
  r[i].owes_step = 0;
  r[i].is_dummy = 0;
  r[i].step = r[i].step + 1;
  if
  :: IS_LOST(i) -> enter_pending(i);
  :: else -> post(i);
  fi
}

inline abandon_step(i) {
  r[i].owes_step = !r[i].is_dummy;
  r[i].is_dummy = 0;
  enter_pending(i);
}

/* ---- What a rank says, and what is on its way to it ---- */

/* The coordinator's state after hearing it would be another one. */
#define IS_USEFUL_START(i) \
  (IN(present_, i) && (r[i].wave > wave_ || r[i].wave == wave_ && is_running_ || \
                       !is_running_ && (is_settled_ || !is_wanted_)))
#ifdef SEED_REPORTS_ALONE
#define IS_NEWS_OF_AN_OLDER_WAVE(i) (r[i].wave < wave_ && !is_running_ && IN(present_, i) && !IN(ranks_, i))
#else
#define IS_NEWS_OF_AN_OLDER_WAVE(i) (r[i].wave < wave_ && !has_begun_)
#endif
#define IS_USEFUL_IN_WAVE(i) \
  (r[i].wave > wave_ || (r[i].wave == wave_ && IN(outside_, i)) || \
   (r[i].wave == wave_ && !is_ours_ && (is_settled_ && present_ || !is_wanted_ || !is_running_)) || \
   IS_NEWS_OF_AN_OLDER_WAVE(i))
/* Only in answer to a start. */
#define IS_USEFUL_COMPLETE(i) (r[i].wave == wave_ && IN(outside_, i))
#define IS_USEFUL_LEAVING(i) \
  (IN(present_, i) || IS_USEFUL_IN_WAVE(i) || (r[i].wave >= wave_ && IN(leavers_, i)) || \
   (r[i].wave < wave_ && is_ours_ && !IN(ranks_ | leavers_, i)))
#define IS_USEFUL(i) ((STANDING(i) == kStart && IS_USEFUL_START(i)) || \
                      (STANDING(i) == kInWave && IS_USEFUL_IN_WAVE(i)) || \
                      (STANDING(i) == kLeaving && IS_USEFUL_LEAVING(i)) || \
                      (STANDING(i) == kComplete && IS_USEFUL_COMPLETE(i)))
#define IS_JOINED(i) (is_up && IN(live, i) && r[i].is_alive && !r[i].is_gone)

#ifdef SEED_STALE
#define IS_NEWS(i, start) (start.wave != HEARD(i))
#else
#define SAYS_MORE(i, start) (start.wave == r[i].next && start.abandon_below > r[i].next_abandons)
#define IS_NEWS(i, start) (start.wave > HEARD(i) || SAYS_MORE(i, start))
#endif
#ifdef SEED_SKIP_ASKER
unsigned asked : 3;
#endif

inline deliver(i, start) {
  start.fly = WITHOUT(start.fly, i);
  if
  :: IS_NEWS(i, start) ->
#ifdef SEED_SKIP_ASKER
    if
    :: IN(asked, i) && r[i].phase == kAsleep && r[i].work == 0 /* It has been woken for nothing. */
    :: else -> on_start(i, start);
    fi;
    asked = WITHOUT(asked, i);
#else
    on_start(i, start);
#endif
  :: else
  fi
}
/* It is repeated. */
#define IS_SURE(i) (is_up && is_ours_ && last.wave == wave_ && !r[i].is_gone && \
                    IN(outside_ | leavers_, i) && IN(ready, i))

#ifdef SEED_LOCAL_PAUSE
#define TAKES_PART(i) && !PAUSED(i)
#else
#define TAKES_PART(i)
#endif

proctype Rank(byte i) {
end:
  do
  :: d_step { r[i].phase == kAgreeing && KNOWS_ALL(i) TAKES_PART(i) -> agree(i); }
#ifdef SLOW_END
  :: d_step { r[i].phase == kRunning && ALL_CAME(i) -> check_work(i); r[i].phase = kComputing; }
  :: d_step { r[i].phase == kComputing -> end_step(i); }
#else
  :: d_step { r[i].phase == kRunning && ALL_CAME(i) -> check_work(i); end_step(i); }
#endif
  :: d_step { r[i].phase >= kRunning && IS_LOST(i) -> abandon_step(i); }
  :: d_step { IN(last.fly, i) && r[i].is_alive TAKES_PART(i) -> deliver(i, last); }
  :: d_step { IN(before.fly, i) && r[i].is_alive TAKES_PART(i) -> deliver(i, before); }
  :: d_step { IN(last.fly, i) && !IS_SURE(i) -> last.fly = WITHOUT(last.fly, i); }
  :: d_step { IN(before.fly, i) -> before.fly = WITHOUT(before.fly, i); }
  :: d_step { IS_JOINED(i) && !r[i].has_told && nfull(reports[i]) ->
      reports[i]!STANDING(i), r[i].wave;
      r[i].has_told = 1;
    }
  :: d_step { IS_JOINED(i) && r[i].has_told && empty(reports[i]) && IS_USEFUL(i) ->
      reports[i]!STANDING(i), r[i].wave;
    }
  od
}
/* ---- WaveState ---- */

#ifdef SEED_SOFT_SUCCESSOR
#define HARD_IF_NOT_OURS is_wanted_hard_
#else
#define HARD_IF_NOT_OURS (is_wanted_hard_ || !is_ours_)
#endif

inline start_wave() {
  wave_++;
  assert(wave_ < WAVE_MAX && wave_ % BASE != 0);
  awaited_ = ranks_ & (ALL - present_);
  leavers_ = leavers_ | awaited_;
  if
  :: HARD_IF_NOT_OURS ->
    abandon_below_ = wave_;
    awaited_ = 0;
  :: else
  fi;
  is_wanted_hard_ = 0;
  has_begun_ = 1;
  is_ours_ = 1;
  is_running_ = 1;
  ranks_ = present_;
  outside_ = present_;
  before.wave = last.wave;
  before.abandon_below = last.abandon_below;
  before.ranks = last.ranks;
  before.fly = last.fly;
  last.wave = wave_;
  last.abandon_below = abandon_below_;
  last.ranks = ranks_;
  last.fly = ranks_ | leavers_;
}
inline want(hard) {
  is_wanted_hard_ = (is_wanted_hard_ || hard);
  is_wanted_ = (!is_settled_ || present_ == 0);
  if
  :: present_ == 0 -> is_running_ = 0;
  :: else
  fi;
  if
  :: !is_wanted_ -> start_wave();
  :: else
  fi
}

inline learn(number) {
  if
  :: number > wave_ ->
    has_begun_ = 1;
    wave_ = number;
    is_running_ = 0;
    is_ours_ = 0;
    ranks_ = 0;
    outside_ = 0;
    leavers_ = 0;
    awaited_ = 0;
  :: else
  fi
}

#ifdef SEED_SOFT_EARLY
#define ALL_ARE_IN 1
#else
#define ALL_ARE_IN (outside_ == 0)
#endif
/* It may be in a wave of the past, or hold a pause that the others have left. */
#if defined(SEED_OLD_WAVE) || defined(SEED_REPORTS_ALONE)
#define IN_A_PAUSE 0
#else
#define IN_A_PAUSE has_begun_
#endif
#ifdef SEED_LATE_REPORT
#define STARTS_FOR(i) 1
#else
#define STARTS_FOR(i) !IN(ranks_, i)
#endif
#define IS_START_FOR_OTHER_RANKS_DUE \
  (is_running_ && is_ours_ && ALL_ARE_IN && present_ != ranks_ || \
   !is_running_ && IN_A_PAUSE && (present_ & (ALL - ranks_)))

inline start_if_ranks_changed() {
  if
  :: IS_START_FOR_OTHER_RANKS_DUE -> want(0);
  :: else
  fi
}

/* Nobody is in waves before but who leaves. */
inline all_are_in() {
#ifndef SEED_LEAVER_MISSES
  if
  :: leavers_ ->
    abandon_below_ = wave_;
    last.abandon_below = (last.wave == wave_ -> wave_ : last.abandon_below);
    last.fly = (last.wave == wave_ -> last.fly | leavers_ : last.fly);
  :: else
  fi;
#endif
  start_if_ranks_changed();
}

inline on_rank_ready(i) {
  ready = ready | BIT(i);
  leavers_ = WITHOUT(leavers_, i);
  present_ = present_ | BIT(i);
  if
  :: is_wanted_ -> want(0);
  :: else -> start_if_ranks_changed();
  fi
}

#ifdef SEED_LOSS_AFTER_END
#define LOSS_COUNTS && is_running_
#else
#define LOSS_COUNTS
#endif
#ifdef SEED_LEAVER_GONE
#define IS_MISSED(i) 0
#else
#define IS_MISSED(i) (IN(awaited_, i) && outside_)
#endif

inline on_rank_lost(i) {
  ready = WITHOUT(ready, i);
  present_ = WITHOUT(present_, i);
  outside_ = WITHOUT(outside_, i);
  leavers_ = WITHOUT(leavers_, i);
  if
  :: IN(ranks_, i) LOSS_COUNTS || IS_MISSED(i) ->
    ranks_ = WITHOUT(ranks_, i);
    awaited_ = WITHOUT(awaited_, i);
    want(1);
  :: else ->
    ranks_ = WITHOUT(ranks_, i);
    awaited_ = WITHOUT(awaited_, i);
  fi
}
inline on_wave_complete(number) {
  learn(number);
  if
  :: number == wave_ ->
    is_running_ = 0;
    outside_ = 0;
    all_are_in();
  :: else
  fi
}

inline on_waves_were() {
  has_begun_ = 1;
  start_if_ranks_changed();
}

inline on_work_waits(i, number) {
  if
  :: IN(present_, i) ->
    learn(number);
#ifdef SEED_IN_WAVE_ONLY
    if
    :: number == wave_ && IN(ranks_, i) && outside_ == 0 -> is_running_ = 0;
    :: else
    fi;
#else
    if
    :: number == wave_ -> on_wave_complete(number);
    :: else
    fi;
#endif
    if
    :: !is_running_ ->
      want(0);
#ifdef SEED_SKIP_ASKER
      asked = BIT(i);
#endif
    :: else
    fi
  :: else
  fi
}

inline on_in_wave(i, number) {
  learn(number);
  if
#if defined(SEED_LATE_REPORT) || defined(SEED_REPORTS_ALONE)
  :: number < wave_ && !is_running_ && IN(present_, i) && STARTS_FOR(i) -> want(0);
#else
  :: number < wave_ -> on_waves_were();
#endif
  :: number == wave_ && !is_ours_ ->
    is_running_ = 1;
    want(1);
  :: number == wave_ && is_ours_ && IN(outside_, i) ->
    outside_ = WITHOUT(outside_, i);
#ifdef SEED_SOFT_EARLY
    all_are_in();
#else
    if
    :: outside_ == 0 -> all_are_in();
    :: else
    fi
#endif
  :: else
  fi
}

inline on_leaving(i, number) {
  present_ = WITHOUT(present_, i);
  on_in_wave(i, number);
  start_if_ranks_changed();
  if
  :: !IN(ranks_, i) && number >= wave_ -> leavers_ = WITHOUT(leavers_, i);
  :: !IN(ranks_, i) && number < wave_ && is_ours_ -> /* It was out of the view, or in a wave of a predecessor. */
    leavers_ = leavers_ | BIT(i);
    last.fly = last.fly | BIT(i);
    if
    :: outside_ == 0 ->
      abandon_below_ = wave_;
      last.abandon_below = wave_;
    :: else
    fi
  :: else
  fi
}

inline on_report(i) {
  reports[i]?low, high;
  if
  :: low == kStart -> on_work_waits(i, high);
  :: low == kComplete -> on_wave_complete(high);
  :: low == kInWave -> on_in_wave(i, high);
  :: low == kLeaving -> on_leaving(i, high);
  fi;
  low = 0;
  high = 0;
}

inline forget_reports(i) {
  do
  :: nempty(reports[i]) -> reports[i]?low, high;
  :: empty(reports[i]) -> break
  od;
  low = 0;
  high = 0;
}

inline on_hello(i) {
  live = live | BIT(i);
  r[i].has_told = (STANDING(i) == kComplete);
  if
  :: HEARD(i) > 0 -> on_waves_were();
  :: else
  fi;
  if
  :: HEARD(i) > wave_ -> /* WaveComplete */
    some = HEARD(i);
    on_wave_complete(some);
  :: else
  fi
}

inline on_settled() {
  for (j : 0 .. RANKS - 1) {
    if
    :: IN(live, j) -> present_ = present_ | BIT(j);
    :: else
    fi
  }
  j = 0;
  ready = live;
  is_settled_ = 1;
  if
  :: is_wanted_ -> want(0);
  :: else -> start_if_ranks_changed();
  fi
}

inline forget_all() {
  is_up = 0;
  wave_ = 0;
  abandon_below_ = 0;
  has_begun_ = 0;
  is_running_ = 0;
  is_ours_ = 0;
  is_settled_ = 0;
  is_wanted_ = 0;
  is_wanted_hard_ = 0;
  leavers_ = 0;
  awaited_ = 0;
  live = 0;
  ready = 0;
  present_ = 0;
  ranks_ = 0;
  outside_ = 0;
  for (j : 0 .. RANKS - 1) {
    forget_reports(j);
  }
  j = 0;
}

#ifdef SEED_NEXT_NUMBER
#define FIRST_BASE 0
#else
#define FIRST_BASE (life * BASE)
#endif

inline drop(i) {
  live = WITHOUT(live, i);
  forget_reports(i);
  if
  :: IN(ready, i) -> on_rank_lost(i);
  :: else
  fi
}

#define OF(i) \
  :: d_step { is_up && nempty(reports[i]) -> on_report(i); } \
  :: d_step { is_up && !IN(live, i) && r[i].is_alive && !r[i].is_gone -> on_hello(i); } \
  :: d_step { is_up && is_settled_ && IN(live, i) && !IN(ready, i) && r[i].is_alive -> on_rank_ready(i); } \
  :: d_step { is_up && IN(live, i) && !r[i].is_alive -> drop(i); }

inline check_rest() {
  d_step {
    assert(is_up && is_settled_);
    for (j : 0 .. RANKS - 1) {
      if
      :: r[j].is_gone || !r[j].is_alive -> assert(r[j].is_gone);
      :: else ->
        assert(IN(present_, j));
        assert(r[j].phase == kAsleep);
        assert(!r[j].owes_step);
        assert(!CAN_COMPUTE(j));
#if PAUSES
        assert(!UNTOLD(j));
        assert(pause_stage != 3 || (PAUSED(j) == 0 && MODE(r[j].wish) == 0));
        assert(pause_stage != 2 || KILLS || DROPS || LATE || PAUSED(j) == 1);
#endif
      fi
    }
    j = 0;
  }
}

active proctype Coordinator() {
  d_step {
    live = ALL - LATE;
    ready = ALL - LATE;
    present_ = ALL - LATE;
    is_settled_ = 1;
    for (j : 0 .. RANKS - 1) {
      r[j].is_alive = !IN(LATE, j);
      r[j].has_told = 1;
    }
    j = 0;
  }
  atomic {
    run Rank(0);
    run Rank(1);
    run Rank(2);
    run World();
  }
end:
  do
  OF(0)
  OF(1)
  OF(2)
  :: d_step { is_up && !is_settled_ && live -> on_settled(); }
  :: d_step { !is_up ->
      is_up = 1;
      life++;
      wave_ = FIRST_BASE;
    }
  :: timeout -> break
  od;
  check_rest();
}

/* ---- Work, pauses, faults ---- */

inline arrive(i) {
  work_left--;
  r[i].work = r[i].work + 1;
  if
  :: r[i].phase == kAsleep -> r[i].has_told = 0;
  :: else
  fi
}

inline abort(i) {
  aborts_left--;
  is_excused = 1;
  r[i].work = 0;
  if
  :: r[i].phase == kAsleep -> r[i].has_told = 0;
  :: else
  fi
}

inline die(i) {
  r[i].is_alive = 0;
  r[i].wave = 0;
  r[i].next = 0;
  r[i].next_ranks = 0;
  r[i].next_abandons = 0;
  r[i].ranks = 0;
  r[i].step = 0;
  r[i].phase = kAsleep;
  r[i].is_dummy = 0;
  r[i].owes_step = 0;
  r[i].work = 0;
  r[i].leaves = 0;
  r[i].has_told = 1;
#if PAUSES
  r[i].pause = 0;
  r[i].wish = 0;
  r[i].untold = 0;
#endif
  last.fly = WITHOUT(last.fly, i);
  before.fly = WITHOUT(before.fly, i);
}

inline lose_records(i, seen_by) {
  if
  :: seen_by == 0 ->
    clear_record(r[i].older);
    clear_record(r[i].newest);
  :: else ->
    r[i].older.seen = r[i].older.seen & seen_by;
    r[i].newest.seen = r[i].newest.seen & seen_by;
  fi
}

#if PAUSES
inline wish_pause(i, asked) {
  if
  :: asked > r[i].wish -> r[i].untold = 1;
  :: else
  fi;
  r[i].wish = (asked > r[i].wish -> asked : r[i].wish);
#ifdef SEED_LOCAL_PAUSE
  r[i].pause = r[i].wish;
#endif
  if
  :: r[i].phase == kAsleep ->
    r[i].pause = r[i].wish;
    r[i].has_told = 0;
  :: else
  fi
}
#endif

inline calm() {
  work_left = 0;
  aborts_left = 0;
  kills_left = 0;
  drops_left = 0;
  crashes_left = 0;
  leaves_left = 0;
}

#ifdef BRIEF /* Who is lost comes back, and all or none have seen what a dead one has said last. */
#define MAY_BE_GONE(i)
#define SEEN_BY_ONE(a, b)
#else
#define MAY_BE_GONE(i) :: r[i].is_gone = 1;
#define SEEN_BY_ONE(a, b) :: some = a; :: some = b;
#endif

/* It goes when it sleeps, and need not wait until the others have what it has said last. */
#if LEAVES
#define MAY_LEAVE(i, a, b) \
  :: d_step { leaves_left && IN(LEAVING, i) && r[i].is_alive && !r[i].is_gone && !r[i].leaves && \
              r[i].work == 0 && !r[i].owes_step -> \
      leaves_left--; \
      r[i].leaves = 1; \
      r[i].has_told = (r[i].phase == kAsleep -> r[i].has_told : 0); } \
  :: atomic { r[i].leaves && r[i].is_alive && r[i].phase == kAsleep -> \
      die(i); \
      r[i].is_gone = 1; \
      if :: some = 0; :: some = ALL; SEEN_BY_ONE(a, b) fi; \
      lose_records(i, some); some = 0 }
#else
#define MAY_LEAVE(i, a, b)
#endif

/* a, b: the sets of either of the others. */
#define TO(i, a, b) \
  :: d_step { work_left && r[i].is_alive && !r[i].is_gone && r[i].work < 2 && !r[i].leaves -> arrive(i); } \
  :: d_step { aborts_left && r[i].work > 0 -> abort(i); } \
  :: atomic { kills_left && IN(KILLED, i) && r[i].is_alive && !r[i].is_gone -> kills_left--; die(i); \
      if :: r[i].is_gone = 0; MAY_BE_GONE(i) fi; \
      if :: some = 0; :: some = ALL; SEEN_BY_ONE(a, b) fi; \
      lose_records(i, some); some = 0 } \
  :: atomic { drops_left && IN(DROPPED, i) && is_up && is_settled_ && IN(present_, i) && r[i].is_alive && !r[i].is_gone -> \
      drops_left--; \
      drop(i); \
      if :: r[i].is_gone = 0; MAY_BE_GONE(i) fi } \
  :: d_step { !r[i].is_alive && !r[i].is_gone && !(is_up && IN(live, i)) -> r[i].is_alive = 1; } \
  MAY_LEAVE(i, a, b)

/* A pause is asked of every rank, one by one; then perhaps a resume, likewise. */
#if defined(SEED_ASK_ONCE) || defined(ASK_ONE)
#define ASK_AGAIN(i)
#else /* A rank that came in between has the pause from the others, and has not been asked. */
#define ASK_AGAIN(i) \
  :: d_step { pause_stage == 3 && to_ask == 0 && r[i].is_alive && MODE(r[i].wish) -> wish_pause(i, RESUME); }
#endif
#ifdef ASK_ONE
#define TO_PAUSE BIT(0)
#define TO_RESUME BIT(1)
#else
#define TO_PAUSE ALL
#define TO_RESUME ALL
#endif
#define ASK(i) \
  :: d_step { IN(to_ask, i) -> \
      to_ask = WITHOUT(to_ask, i); \
      if :: r[i].is_alive -> if :: pause_stage == 1 -> wish_pause(i, PAUSE); :: else -> wish_pause(i, RESUME); fi; :: else fi } ASK_AGAIN(i)

proctype World() {
end:
  do
  TO(0, 2, 4)
  TO(1, 1, 4)
  TO(2, 1, 2)
  :: d_step { crashes_left && is_up -> crashes_left--; forget_all(); }
  :: d_step { work_left || aborts_left || kills_left || drops_left || crashes_left || leaves_left -> calm(); }
#if PAUSES
  ASK(0)
  ASK(1)
  ASK(2)
  :: d_step { pause_stage == 0 -> pause_stage = 1; to_ask = TO_PAUSE; is_excused = 1; }
  :: d_step { pause_stage == 1 && to_ask == 0 -> pause_stage = 2; }
  :: d_step { pause_stage == 1 && to_ask == 0 -> pause_stage = 3; to_ask = TO_RESUME; }
#endif
  od
}
