using PciOperator.Testing;

namespace PciOperator.Host.Tests.Faults;

/// <summary>
/// A clock that a test moves; but where the agent itself waits for a moment before it looks again, it moves by itself: a
/// wait of less than a second is over as soon as it begins.
/// </summary>
internal sealed class FaultClock(FakeTimeProvider time) : TimeProvider
{
    private static readonly TimeSpan Moment = TimeSpan.FromSeconds(1);

    public override long TimestampFrequency => time.TimestampFrequency;

    public override TimeZoneInfo LocalTimeZone => time.LocalTimeZone;

    public override DateTimeOffset GetUtcNow() => time.GetUtcNow();

    public override long GetTimestamp() => time.GetTimestamp();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        ITimer timer = time.CreateTimer(callback, state, dueTime, period);
        if (dueTime > TimeSpan.Zero && dueTime < Moment)
            time.Advance(dueTime);
        return timer;
    }
}
