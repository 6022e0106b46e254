namespace PciOperator.Testing;

/// <summary>A clock that stands still until a test moves it; its timers go off, in order, as it moves.</summary>
public sealed class FakeTimeProvider(DateTimeOffset? start = null) : TimeProvider
{
    private readonly Lock _lock = new();
    private readonly List<FakeTimer> _timers = [];
    private readonly List<(Func<IReadOnlyList<TimeSpan>, bool> Condition, TaskCompletionSource Done)> _waiters = [];
    private readonly DateTimeOffset _start = start ?? new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private TimeSpan _elapsed;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow()
    {
        lock (_lock)
            return _start + _elapsed;
    }

    public override long GetTimestamp()
    {
        lock (_lock)
            return _elapsed.Ticks;
    }

    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new FakeTimer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>Moves the clock on; each timer goes off at its own time, on the calling thread.</summary>
    public void Advance(TimeSpan by)
    {
        TimeSpan target;
        lock (_lock)
            target = _elapsed + by;
        while (true)
        {
            FakeTimer? next;
            lock (_lock)
            {
                next = _timers.Where(t => t.Due <= target).MinBy(t => t.Due);
                if (next is null)
                {
                    _elapsed = target;
                    return;
                }

                if (next.Due > _elapsed)
                    _elapsed = next.Due;
                if (next.Period > TimeSpan.Zero)
                    next.Due += next.Period;
                else
                    _timers.Remove(next);
            }

            next.Fire();
        }
    }

    /// <summary>Completes as soon as the delays of the timers that are set fulfil a condition: the way to know that what is
    /// tested has come to wait for the clock.</summary>
    public Task WaitForTimersAsync(Func<IReadOnlyList<TimeSpan>, bool> condition)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_lock)
            _waiters.Add((condition, done));
        Changed();
        return done.Task.WaitAsync(TimeSpan.FromSeconds(30));
    }

    /// <summary>Completes when a timer is set that goes off after just this delay.</summary>
    public Task WaitForTimerAsync(TimeSpan delay) => WaitForTimersAsync(delays => delays.Contains(delay));

    private void Changed()
    {
        lock (_lock)
        {
            IReadOnlyList<TimeSpan> delays = [.. _timers.Select(t => t.Due - _elapsed)];
            foreach (
                (Func<IReadOnlyList<TimeSpan>, bool> Condition, TaskCompletionSource Done) waiter in _waiters
                    .Where(w => w.Condition(delays))
                    .ToList()
            )
            {
                _waiters.Remove(waiter);
                waiter.Done.TrySetResult();
            }
        }
    }

    private sealed class FakeTimer(FakeTimeProvider time, TimerCallback callback, object? state) : ITimer
    {
        public TimeSpan Due { get; set; }

        public TimeSpan Period { get; private set; }

        public void Fire() => callback(state);

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (time._lock)
            {
                time._timers.Remove(this);
                if (dueTime != Timeout.InfiniteTimeSpan)
                {
                    Due = time._elapsed + dueTime;
                    Period = period;
                    time._timers.Add(this);
                }
            }

            time.Changed();
            return true;
        }

        public void Dispose()
        {
            lock (time._lock)
                time._timers.Remove(this);
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
