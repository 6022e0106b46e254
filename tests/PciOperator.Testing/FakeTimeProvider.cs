using Clock = Microsoft.Extensions.Time.Testing.FakeTimeProvider;

namespace PciOperator.Testing;

/// <summary>A clock that stands still until a test moves it; its timers go off, in order, as it moves.</summary>
/// <remarks>
/// Clock and timers are Microsoft's. Added is what that type doesn't tell: which timers are set. A test waits for them, to know that what
/// it tests has come to wait for the clock. They are held here, too, so that none that nobody refers to any more is gone after a garbage collection.
/// </remarks>
public sealed class FakeTimeProvider(DateTimeOffset? start = null) : Clock(start ?? new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero))
{
    private readonly Lock _lock = new();
    private readonly List<SeenTimer> _set = [];
    private readonly List<(Func<IReadOnlyList<TimeSpan>, bool> Condition, TaskCompletionSource Done)> _waiters = [];

    /// <inheritdoc/>
    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new SeenTimer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
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
            DateTimeOffset now = GetUtcNow();
            IReadOnlyList<TimeSpan> delays = [.. _set.Select(t => t.Due - now)];
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

    /// <summary>One of Microsoft's timers, and when it goes off next.</summary>
    private sealed class SeenTimer : ITimer
    {
        private readonly FakeTimeProvider _time;
        private readonly ITimer _timer;
        private TimeSpan _period;
        private bool _waits;

        public SeenTimer(FakeTimeProvider time, TimerCallback callback, object? state)
        {
            _time = time;
            _timer = time.CreateInnerTimer(_ =>
            {
                GoesOff();
                callback(state);
            });
        }

        public DateTimeOffset Due { get; private set; }

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (_time._lock)
            {
                _time._set.Remove(this);
                _waits = dueTime != Timeout.InfiniteTimeSpan;
                Due = _waits ? _time.GetUtcNow() + dueTime : default;
                _period = period;
            }

            // Seen only when it is set: a test that sees it may move the clock at once. Not set under the lock: what is due goes off in here.
            bool changed = _timer.Change(dueTime, period);
            lock (_time._lock)
            {
                if (_waits)
                    _time._set.Add(this);
            }

            _time.Changed();
            return changed;
        }

        public void Dispose()
        {
            _timer.Dispose();
            lock (_time._lock)
                Forget();
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }

        private void GoesOff()
        {
            lock (_time._lock)
            {
                if (_period > TimeSpan.Zero)
                    Due += _period;
                else
                    Forget();
            }
        }

        private void Forget()
        {
            _waits = false;
            _time._set.Remove(this);
        }
    }

    private ITimer CreateInnerTimer(TimerCallback callback) =>
        base.CreateTimer(callback, null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
}
