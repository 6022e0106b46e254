using PciOperator.Testing;

namespace PciOperator.Kubernetes.Tests.Unit;

/// <summary>The clock that the other tests stand on.</summary>
public class FakeTimeProviderTests
{
    private static readonly TimeSpan Delay = TimeSpan.FromMilliseconds(5);

    [Fact]
    public async Task A_timer_that_a_test_sees_goes_off_when_the_clock_is_moved()
    {
        for (int i = 0; i < 2000; i++)
        {
            var time = new FakeTimeProvider();
            var wentOff = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            Task seen = time.WaitForTimerAsync(Delay);
            Task<ITimer> set = Task.Run(() => time.CreateTimer(_ => wentOff.SetResult(), null, Delay, Timeout.InfiniteTimeSpan));
            await seen;
            time.Advance(Delay);
            await wentOff.Task.WaitAsync(TimeSpan.FromSeconds(30));
            await (await set).DisposeAsync();
        }
    }

    [Fact]
    public async Task A_timer_that_went_off_is_seen_no_more_and_one_with_a_period_is()
    {
        var time = new FakeTimeProvider();
        int count = 0;
        await using ITimer once = time.CreateTimer(_ => count++, null, Delay, Timeout.InfiniteTimeSpan);
        await using ITimer atOnce = time.CreateTimer(_ => count++, null, TimeSpan.Zero, Timeout.InfiniteTimeSpan);
        await using ITimer often = time.CreateTimer(_ => count++, null, Delay, Delay * 2);
        time.Advance(Delay);
        Assert.Equal(3, count);
        await time.WaitForTimersAsync(delays => delays is [var one] && one == Delay * 2);
    }
}
