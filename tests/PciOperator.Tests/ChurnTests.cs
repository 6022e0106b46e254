using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>How often the controller decides and writes while somebody else is never still, by its own clock.</summary>
[Turns(8)]
public sealed class ChurnTests(ITestOutputHelper output)
{
    private const string Decisions = "pcioperator_placement_duration_seconds_count";
    private static readonly TimeSpan Step = TimeSpan.FromMilliseconds(100);

    [TurnFact]
    public async Task Decisions_that_are_outdated_each_time_become_fewer_and_keep_nobody_else_waiting()
    {
        await using ClockedController lab = await ClockedController.StartAsync(2);
        await lab.ReportAsync("node-1", null, "0a51");
        await lab.ReportAsync("node-2", null, "0a52");
        lab.IsOutdated = write => write == "PATCH /apis/pcioperator.io/v1alpha1/pcinodes/node-1";
        await lab.ClaimAsync("contested", "drive-0a51");
        await lab.UntilAsync("the first decision", () => Task.FromResult<string?>("a decision"), _ => lab.Metric(Decisions) >= 1);

        await lab.PassAsync(
            TimeSpan.FromSeconds(60),
            Step,
            async i =>
            {
                if (i % 5 == 0)
                    await lab.ReportAsync("node-1", $"kernel {i}", "0a51");
            }
        );
        double decisions = lab.Metric(Decisions);
        int tries = lab.Writes(lab.IsOutdated);
        output.WriteLine($"{decisions} decisions and {tries} writes in a minute in which each was outdated");
        // 5 ms, doubled each time: 14 in a minute.
        Assert.InRange(decisions, 8, 16);
        Assert.InRange(tries, 8, 16 * 8);

        // The other node's claim is served within moments, and this one when the node is still again: after a minute at most.
        await lab.ClaimAsync("other", "drive-0a52");
        DateTimeOffset began = lab.Time.GetUtcNow();
        await lab.UntilAsync("the other claim", () => ClaimAsync(lab, "other"), c => c.Status?.NodeName == "node-2");
        Assert.InRange(lab.Time.GetUtcNow() - began, TimeSpan.Zero, TimeSpan.FromSeconds(2));
        lab.IsOutdated = _ => false;
        await lab.PassAsync(TimeSpan.FromSeconds(61), TimeSpan.FromSeconds(1));
        await lab.UntilAsync("the claim", () => ClaimAsync(lab, "contested"), c => c.Status?.NodeName == "node-1");
    }

    [TurnFact]
    public async Task A_node_whose_devices_come_and_go_all_the_time_costs_few_decisions()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await lab.ReportAsync("node-1");
        await lab.ClaimAsync("waiting", "drive-0a51", count: 2);
        await lab.UntilAsync("it to wait", () => ClaimAsync(lab, "waiting"), c => c.Status?.Phase == ClaimPhase.Pending);
        double before = lab.Metric(Decisions);
        await lab.PassAsync(
            TimeSpan.FromSeconds(60),
            Step,
            i => i % 2 == 0 ? lab.ReportAsync("node-1", null, "0a51") : lab.ReportAsync("node-1")
        );
        double decisions = lab.Metric(Decisions) - before;
        output.WriteLine($"{decisions} decisions in a minute in which a device came and went 300 times");
        // Ten at once, then one in two seconds: 45 at most. Each says something new, and what is written brings the claim back once, twice
        // where the report changed meanwhile. Without bounds it is twice for each of the 300.
        Assert.InRange(decisions, 10, 3 * 45);

        // And what helps it still does, within that time.
        await lab.ReportAsync("node-1", null, "0a51", "0a51");
        DateTimeOffset began = lab.Time.GetUtcNow();
        await lab.UntilAsync("the claim", () => ClaimAsync(lab, "waiting"), c => c.Status?.NodeName == "node-1");
        Assert.InRange(lab.Time.GetUtcNow() - began, TimeSpan.Zero, TimeSpan.FromSeconds(3));
    }

    [TurnFact]
    public async Task A_status_in_which_only_counts_change_is_written_once_in_thirty_seconds()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await lab.ReportAsync("node-1", null, "0a51");
        PassthroughClaim created = await lab.ClaimAsync("waiting", "drive-0a51", count: 16);
        await lab.UntilAsync("it to wait", () => ClaimAsync(lab, "waiting"), c => c.Status?.Phase == ClaimPhase.Pending);
        static bool IsStatus(string write) =>
            write == "PUT /apis/pcioperator.io/v1alpha1/namespaces/default/passthroughclaims/waiting/status";
        int first = lab.Writes(IsStatus);
        var writtenAt = new List<double>();
        DateTimeOffset began = lab.Time.GetUtcNow();
        for (int i = 1; i <= 12; i++)
        {
            // One device more each 8 s: each is news for the claim, and changes nothing but a count.
            await lab.ReportAsync("node-1", null, [.. Enumerable.Repeat("0a51", i + 1)]);
            await lab.PassAsync(
                TimeSpan.FromSeconds(8),
                TimeSpan.FromSeconds(0.5),
                _ =>
                {
                    if (lab.Writes(IsStatus) > first + writtenAt.Count)
                        writtenAt.Add((lab.Time.GetUtcNow() - began).TotalSeconds);
                    return Task.CompletedTask;
                }
            );
        }

        output.WriteLine($"written at {string.Join(", ", writtenAt)} s of {(lab.Time.GetUtcNow() - began).TotalSeconds} s");
        Assert.InRange(writtenAt.Count, 3, 4);
        Assert.All(writtenAt.Zip(writtenAt.Skip(1)), w => Assert.True(w.Second - w.First >= 29, $"{w}"));
        // What was left out is said in the end.
        await lab.PassAsync(TimeSpan.FromSeconds(31), TimeSpan.FromSeconds(1));
        string message = (await ClaimAsync(lab, "waiting"))!.Status!.Conditions.Find(Conditions.Scheduled)!.Message;
        Assert.Contains("(13 of 16)", message, StringComparison.Ordinal);

        // Another reason is said at once.
        int before = lab.Writes(IsStatus);
        await lab.Client.DeleteAsync<PciAlias>("drive-0a51");
        await lab.UntilAsync(
            "the news",
            () => ClaimAsync(lab, "waiting"),
            c => c.Status!.Conditions.Find(Conditions.Scheduled)!.Reason == "AliasNotFound"
        );
        Assert.Equal(before + 1, lab.Writes(IsStatus));
        Assert.Equal(created.Metadata.Uid, (await ClaimAsync(lab, "waiting"))!.Metadata.Uid);
    }

    [TurnFact]
    public async Task One_tenants_fifteen_hundred_waiting_claims_are_not_decided_before_anothers_single_one()
    {
        const int waiting = 1500;
        await using ClockedController lab = await ClockedController.StartAsync(1, workers: 1);
        foreach (string ns in (string[])["many", "single"])
        {
            (
                await lab.Client.SendRawAsync(
                    HttpMethod.Post,
                    "/api/v1/namespaces",
                    System.Text.Encoding.UTF8.GetBytes($$$"""{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"{{{ns}}}"}}""")
                )
            ).Dispose();
        }

        await lab.ReportAsync("node-1", null, "0a51", "0a52");
        await Task.WhenAll(Enumerable.Range(0, waiting).Select(i => lab.ClaimAsync($"w{i}", "drive-0a51", count: 16, ns: "many")));
        await lab.UntilAsync("all to be decided", () => Task.FromResult<string?>("decisions"), _ => lab.Metric(Decisions) >= waiting);

        // The only worker is held up by one claim of theirs; all others are woken by a device of their alias; then the single claim comes.
        var gate = new TaskCompletionSource();
        double before = 0.0;
        double turns = -1.0;
        bool atGate = false;
        lab.Before = call =>
        {
            if (call.Contains("/passthroughclaims/gate?", StringComparison.Ordinal))
            {
                Volatile.Write(ref atGate, true);
                return gate.Task;
            }

            if (turns < 0 && call.Contains("/passthroughclaims/one?", StringComparison.Ordinal))
                turns = lab.Metric(Decisions) - before;
            return Task.CompletedTask;
        };
        const string depth = "workqueue_depth{name=\"claims\"}";
        await lab.ClaimAsync("gate", "drive-0a51", count: 16, ns: "many");
        await WaitAsync(() => Volatile.Read(ref atGate));
        await lab.ReportAsync("node-1", null, "0a51", "0a52", "0a51");
        await WaitAsync(() =>
        {
            lab.Time.Advance(TimeSpan.FromMilliseconds(100));
            return lab.Metric(depth) >= waiting;
        });
        await lab.ClaimAsync("one", "drive-0a52", ns: "single");
        await WaitAsync(() => lab.Metric(depth) > waiting);
        before = lab.Metric(Decisions);
        gate.SetResult();
        await lab.UntilAsync(
            "the single claim",
            () => lab.Client.GetAsync<PassthroughClaim>("one", "single"),
            c => c.Status?.NodeName == "node-1"
        );
        output.WriteLine($"{turns} decisions before the single claim's turn");
        // The one that was under way, and one of theirs.
        Assert.InRange(turns, 0, 2);

        static async Task WaitAsync(Func<bool> holds)
        {
            for (int i = 0; !holds(); i++)
            {
                Assert.True(i < 10_000);
                await Task.Delay(5);
            }
        }
    }

    [TurnFact]
    public void A_claim_is_woken_at_once_unless_it_was_so_very_often_of_late()
    {
        var time = new FakeTimeProvider();
        var wakes = new Wakes(time);
        for (int i = 0; i < 10; i++)
            Assert.Equal(TimeSpan.Zero, wakes.DelayOf("a"));
        Assert.Equal([100, 200, 400, 800, 1600, 2000, 2000], Enumerable.Range(0, 7).Select(_ => wakes.DelayOf("a").TotalMilliseconds));
        Assert.Equal(TimeSpan.Zero, wakes.DelayOf("b"));
        time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal(TimeSpan.Zero, wakes.DelayOf("a"));
    }

    private static Task<PassthroughClaim?> ClaimAsync(ClockedController lab, string name) =>
        lab.Client.GetAsync<PassthroughClaim>(name, "default");
}
