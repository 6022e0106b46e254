using PciOperator.Controller;

namespace PciOperator.Tests;

/// <summary>Ready and live, of a whole controller, by its own clock.</summary>
public sealed class ControllerHealthTests
{
    [Fact]
    public async Task A_controller_is_not_ready_before_every_cache_is_filled_nor_when_one_kind_is_heard_of_no_more()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        Assert.Null(lab.Controller.NotReady());
        Assert.Null(lab.Controller.WhyStuck());

        var aliases = new TaskCompletionSource();
        lab.Before = call => call.Contains("/pcialiases?", StringComparison.Ordinal) ? aliases.Task : Task.CompletedTask;
        PciController another = lab.Run();
        await Task.Delay(200);
        Assert.Equal("the caches are not filled yet", another.NotReady());
        aliases.SetResult();
        await UntilAsync(() => another.NotReady() is null);

        // Nothing is heard of one kind any more, and it can't be asked for.
        int refused = 0;
        lab.Before = call =>
        {
            if (!call.Contains("/passthroughclaims?", StringComparison.Ordinal))
                return Task.CompletedTask;
            Interlocked.Increment(ref refused);
            return Task.FromException(
                new HttpRequestException("An error occurred while sending the request.", new IOException("The certificate has expired."))
            );
        };
        TimeSpan sinceRefused = TimeSpan.Zero;
        await UntilAsync(() =>
        {
            // Then the clock stands still after a while: it must not run away from a slow machine, on which nobody has tried for long.
            if (sinceRefused < TimeSpan.FromMinutes(5))
            {
                lab.Time.Advance(TimeSpan.FromSeconds(10));
                sinceRefused += Volatile.Read(ref refused) > 0 ? TimeSpan.FromSeconds(10) : TimeSpan.Zero;
            }

            return lab.Controller.NotReady() is { } why
                && why.Contains("passthroughclaims", StringComparison.Ordinal)
                && why.Contains("The certificate has expired.", StringComparison.Ordinal);
        });
        // A restart would not help.
        Assert.Null(lab.Controller.WhyStuck());
        lab.Before = _ => Task.CompletedTask;
        await UntilAsync(() =>
        {
            lab.Time.Advance(TimeSpan.FromSeconds(1));
            return lab.Controller.NotReady() is null;
        });

        foreach (string kind in (string[])["Node", "PciNode", "PciDeviceSpec", "PciAlias", "PassthroughClaim", "Pod"])
            Assert.True(lab.Metric($"pcioperator_watch_cache_last_success_timestamp_seconds{{kind=\"{kind}\"}}") > 1e9, kind);
        foreach (string kind in (string[])["Node", "PciNode", "PciDeviceSpec", "PciAlias"])
            Assert.True(lab.Metric($"pcioperator_reconcile_last_success_timestamp_seconds{{kind=\"{kind}\"}}") > 1e9, kind);
    }

    [Fact]
    public async Task A_controller_whose_queue_stands_still_is_not_alive()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1, workers: 1);
        var never = new TaskCompletionSource();
        bool held = false;
        lab.Before = call =>
        {
            if (!call.StartsWith("PATCH ", StringComparison.Ordinal) || !call.Contains("/passthroughclaims/", StringComparison.Ordinal))
                return Task.CompletedTask;
            Volatile.Write(ref held, true);
            return never.Task;
        };
        await lab.ClaimAsync("a", "drive-0a51");
        await lab.ClaimAsync("b", "drive-0a51");
        await UntilAsync(() => Volatile.Read(ref held) && lab.Metric("workqueue_depth{name=\"claims\"}") >= 1);
        Assert.Null(lab.Controller.WhyStuck());
        lab.Time.Advance(TimeSpan.FromMinutes(11));
        Assert.Contains("the queue of claims has stood still for 660 s", lab.Controller.WhyStuck(), StringComparison.Ordinal);
        never.SetResult();
        await UntilAsync(() => lab.Controller.WhyStuck() is null);
    }

    private static async Task UntilAsync(Func<bool> holds)
    {
        for (int i = 0; !holds(); i++)
        {
            Assert.True(i < 6000, "waited in vain");
            await Task.Delay(5);
        }
    }
}
