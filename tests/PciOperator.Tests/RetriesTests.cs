using PciOperator.Agent;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>When an agent tries again what did not succeed.</summary>
public sealed class RetriesTests
{
    private static readonly TimeSpan First = TimeSpan.FromSeconds(2);

    [Fact]
    public void What_goes_on_failing_is_tried_less_and_less_often()
    {
        var time = new FakeTimeProvider();
        var retries = new Retries(First, time);
        Assert.True(retries.MayStart("prepare/1", "as it is"));
        int[] seconds = [.. Enumerable.Range(0, 8).Select(_ => (int)retries.Failed("prepare/1").TotalSeconds)];
        Assert.Equal([2, 4, 8, 16, 32, 60, 60, 60], seconds);
        Assert.False(retries.MayStart("prepare/1", "as it is"));
        time.Advance(TimeSpan.FromSeconds(59));
        Assert.False(retries.MayStart("prepare/1", "as it is"));
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.True(retries.MayStart("prepare/1", "as it is"));
        Assert.True(retries.MayStart("prepare/2", "as it is"));
    }

    [Fact]
    public void A_change_is_a_reason_to_try_at_once_but_not_one_that_the_work_made_itself()
    {
        var time = new FakeTimeProvider();
        var retries = new Retries(First, time);
        Assert.True(retries.MayStart("prepare/1", "on igb"));
        retries.Failed("prepare/1");
        retries.Failed("prepare/1");
        Assert.False(retries.MayStart("prepare/1", "on no driver")); // its own doing
        Assert.True(retries.MayStart("prepare/1", "plugged in again"));
        Assert.Equal(First, retries.Failed("prepare/1"));
        retries.Forget("prepare/1");
        Assert.True(retries.MayStart("prepare/1", "plugged in again"));
    }

    [Fact]
    public void Who_waits_for_a_process_asks_steadily_for_a_minute_and_then_less_often()
    {
        var time = new FakeTimeProvider();
        var retries = new Retries(First, time);
        int asked = 0;
        for (TimeSpan at = TimeSpan.Zero; at < TimeSpan.FromMinutes(2); )
        {
            TimeSpan delay = retries.Failed("release/1", waits: true);
            Assert.Equal(at < TimeSpan.FromMinutes(1) ? 2 : 10, delay.TotalSeconds);
            Assert.False(retries.MayStart("release/1", "in use"));
            time.Advance(delay);
            at += delay;
            Assert.True(retries.MayStart("release/1", "in use"));
            asked++;
        }

        Assert.Equal(36, asked);
    }
}
