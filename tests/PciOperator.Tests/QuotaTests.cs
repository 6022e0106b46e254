using System.Collections.Concurrent;
using System.Diagnostics;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>How many devices a namespace may hold.</summary>
[Turns(12)]
public sealed class QuotaTests
{
    private const string Status = "/apis/pcioperator.io/v1alpha1/pciquotas/q/status";

    [TurnFact]
    public async Task Two_controllers_never_give_a_tenant_more_than_its_quota()
    {
        const int limit = 20;
        await using LabCluster lab = await (await LabCluster.StartAsync(real: true, controller: false)).WithNodesAsync(6);
        Func<Task> stopFirst = lab.Cluster.StartController();
        lab.Cluster.StartController();
        await lab.WithSamplesAsync();
        await QuotaAsync(lab.Client, ("*", limit));
        await lab.UntilAsync(
            "the quota to hold",
            () => lab.Client.GetAsync<PciQuota>("q"),
            q => q.Status?.ObservedGeneration == q.Metadata.Generation
        );
        using var stop = new CancellationTokenSource();
        Task<int> most = MostAsync(lab.Client, stop.Token);
        string[] wishes = ["a1:1", "a1:2", "tenant-vf:1", "nvme:1", "tenant-vf:2"];
        var random = new Random(20261130);
        Task claims = Task.WhenAll(Enumerable.Range(0, 200).Select(i => lab.ClaimAsync($"c{i}", wishes[random.Next(wishes.Length)])));

        // One dies while they come, and another takes its place.
        await Task.WhenAny(claims, Task.Delay(TimeSpan.FromMilliseconds(300)));
        await stopFirst();
        lab.Cluster.StartController();
        await claims;
        async Task FullAsync() =>
            await lab.UntilAsync(
                "the quota to be used up",
                async () => new Use(await HeldAsync(lab.Client)),
                u => u.Devices == limit,
                TimeSpan.FromSeconds(120)
            );
        await FullAsync();

        // Some go, and others take the room.
        for (int round = 0; round < 3; round++)
        {
            PassthroughClaim[] held =
            [
                .. (await lab.Client.ListAsync<PassthroughClaim>()).Items.Where(c => c.Status?.NodeName is not null).Take(4),
            ];
            foreach (PassthroughClaim claim in held)
                await lab.DeleteAsync(claim.Metadata.Name!);
            foreach (PassthroughClaim claim in held)
                await lab.GoneAsync(claim.Metadata.Name!);
            await FullAsync();
        }

        await stop.CancelAsync();
        Assert.Equal(limit, await most);
        await lab.NoDeviceHasTwoOwnersAsync();
        PassthroughClaim waiting = await lab.UntilAsync(
            "a claim that says why it waits",
            async () =>
                (await lab.Client.ListAsync<PassthroughClaim>()).Items.FirstOrDefault(c =>
                    c.Status?.Conditions.Find(Conditions.Scheduled)?.Reason == QuotaLedger.Exceeded
                ),
            _ => true
        );
        Assert.Contains(
            "of the 20 devices of all aliases together that it may have",
            waiting.Status!.Conditions.Find(Conditions.Scheduled)!.Message,
            StringComparison.Ordinal
        );
    }

    [TurnFact]
    public async Task A_claim_beyond_the_quota_says_what_is_used_and_by_whom_and_is_placed_when_there_is_room()
    {
        await using ClockedController lab = await ClockedController.StartAsync(2);
        await lab.ReportAsync("node-1", products: ["0a51", "0a51", "0a52"]);
        await lab.ReportAsync("node-2", products: ["0a51", "0a51"]);
        await QuotaAsync(lab.Client, ("drive-0a51", 2));
        await HoldsAsync(lab);
        await lab.ClaimAsync("a", "drive-0a51");
        await lab.ClaimAsync("b", "drive-0a51");
        PassthroughClaim a = await PlacedAsync(lab, "a");
        await PlacedAsync(lab, "b");
        await lab.ClaimAsync("c", "drive-0a51");
        PassthroughClaim c = await SaysAsync(lab, "c", QuotaLedger.Exceeded);
        Assert.Equal(
            "namespace default has 2 of the 2 devices of alias drive-0a51 that it may have, and claim c asks for 1; held by a (1), b (1)",
            c.Status!.Conditions.Find(Conditions.Scheduled)!.Message
        );
        await lab.ClaimAsync("other-alias", "drive-0a52");
        await PlacedAsync(lab, "other-alias");
        PciQuota shown = await lab.UntilAsync(
            "use to be shown",
            () => lab.Client.GetAsync<PciQuota>("q"),
            q => q.Status is { Used: [{ Namespace: "default", Limits: [{ Used: 2, Limit: 2 }] }], Full: 1, Reservations: null }
        );
        Assert.Equal("drive-0a51:2", shown.Status!.Summary);

        // Lowered below use: nobody's device is taken, and nothing new is given.
        await lab.Client.PatchAsync<PciQuota>(
            "q",
            null,
            EntityPatch.Merge("""{"spec":{"limits":[{"alias":"drive-0a51","devices":1}]} }""")
        );
        await lab.PassAsync(TimeSpan.FromSeconds(3), TimeSpan.FromSeconds(1));
        Assert.Equal(a.Status!.Devices![0].Address, (await PlacedAsync(lab, "a")).Status!.Devices![0].Address);
        await PlacedAsync(lab, "b");
        await SaysAsync(lab, "c", QuotaLedger.Exceeded);

        await lab.Client.PatchAsync<PciQuota>(
            "q",
            null,
            EntityPatch.Merge("""{"spec":{"limits":[{"alias":"drive-0a51","devices":3}]} }""")
        );
        await PlacedAsync(lab, "c");

        // Without the quota there is no limit.
        await lab.ClaimAsync("d", "drive-0a51");
        await SaysAsync(lab, "d", QuotaLedger.Exceeded);
        await lab.Client.DeleteAsync<PciQuota>("q");
        await PlacedAsync(lab, "d");
    }

    [TurnFact]
    public async Task A_quota_of_other_namespaces_costs_no_request()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await lab.ReportAsync("node-1", products: ["0a51", "0a51"]);
        await QuotaAsync(lab.Client, quota => quota.Spec.Namespaces = ["elsewhere"], ("*", 0));
        await HoldsAsync(lab);
        var calls = new ConcurrentQueue<string>();
        lab.Before = call =>
        {
            if (call.Contains("pciquotas", StringComparison.Ordinal) && !call.Contains("watch=", StringComparison.Ordinal))
                calls.Enqueue(call);
            return Task.CompletedTask;
        };
        await lab.ClaimAsync("a", "drive-0a51");
        await PlacedAsync(lab, "a");
        await lab.ClaimAsync("b", "drive-0a51");
        await PlacedAsync(lab, "b");
        Assert.Empty(calls);
    }

    [TurnFact]
    public async Task Claims_that_come_together_are_reserved_together()
    {
        await using ClockedController lab = await ClockedController.StartAsync(8, workers: 16);
        for (int i = 1; i <= 8; i++)
            await lab.ReportAsync($"node-{i}", products: ["0a51", "0a51"]);
        await QuotaAsync(lab.Client, ("*", 12));
        await HoldsAsync(lab);
        var gate = new TaskCompletionSource();
        lab.Before = call => call.StartsWith($"PUT {Status}", StringComparison.Ordinal) ? gate.Task : Task.CompletedTask;
        int before = lab.Writes(w => w == $"PUT {Status}");
        for (int i = 0; i < 12; i++)
            await lab.ClaimAsync($"c{i}", "drive-0a51");
        // Until the others have come so far too: nothing is written any more.
        for (int quiet = 0, seen = -1; quiet < 50; await Task.Delay(10))
        {
            int writes = lab.Writes(_ => true);
            quiet = writes == seen ? quiet + 1 : 0;
            seen = writes;
        }

        gate.SetResult();
        // The clock stands still: what is shown is not written meanwhile. The first one, and what came while that was under way.
        for (int i = 0; await HeldAsync(lab.Client) < 12; i++)
        {
            Assert.True(i < 1000, "waited in vain for twelve devices to be given away");
            await Task.Delay(10);
        }

        Assert.InRange(lab.Writes(w => w == $"PUT {Status}") - before, 1, 6);
    }

    [TurnFact]
    public async Task What_a_controller_that_died_had_reserved_is_given_to_its_claim_there_or_dropped_in_time()
    {
        await using ClockedController lab = await ClockedController.StartAsync(2);
        await lab.ReportAsync("node-1", products: ["0a51", "0a51"]);
        await lab.ReportAsync("node-2", products: ["0a51", "0a51"]);
        await QuotaAsync(lab.Client, ("*", 2));
        await HoldsAsync(lab);

        // It had reserved a device for a claim that is gone, and one for a claim that is there.
        var gate = new TaskCompletionSource();
        lab.Before = call =>
            call.StartsWith("PATCH ", StringComparison.Ordinal) && call.Contains("passthroughclaims/alive", StringComparison.Ordinal)
                ? gate.Task
                : Task.CompletedTask;
        PassthroughClaim alive = await lab.ClaimAsync("alive", "drive-0a51");
        PciQuota quota = (await lab.Client.GetAsync<PciQuota>("q"))!;
        await lab.Client.UpdateStatusAsync(
            quota with
            {
                Status = quota.Status! with
                {
                    Reservations = [Reserved("a-claim-that-is-gone", "node-1"), Reserved(alive.Metadata.Uid!, "node-2")],
                },
            }
        );
        await lab.ClaimAsync("late", "drive-0a51");
        await SaysAsync(lab, "late", QuotaLedger.Exceeded);
        gate.SetResult();
        PassthroughClaim placed = await PlacedAsync(lab, "alive");
        Assert.Equal("node-2", placed.Status!.NodeName);

        Assert.Equal(QuotaLedger.Exceeded, await ReasonAsync(lab, "late"));
        await lab.PassAsync(QuotaLedger.AbandonedAfter + QuotaLedger.AbandonedAfter, TimeSpan.FromSeconds(1));
        await PlacedAsync(lab, "late");
        await lab.UntilAsync("nothing to be reserved", () => lab.Client.GetAsync<PciQuota>("q"), q => q.Status!.Reservations is null);
    }

    [TurnFact]
    public async Task What_is_assigned_to_a_claim_that_was_removed_by_force_counts_until_it_is_withdrawn()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await lab.ReportAsync("node-1", products: ["0a51", "0a51"]);
        await QuotaAsync(lab.Client, ("drive-0a51", 1));
        await HoldsAsync(lab);
        await lab.ClaimAsync("gone", "drive-0a51");
        await PlacedAsync(lab, "gone");
        var gate = new TaskCompletionSource();
        lab.Before = call =>
            call.StartsWith("PATCH ", StringComparison.Ordinal) && call.Contains("/pcinodes/", StringComparison.Ordinal)
                ? gate.Task
                : Task.CompletedTask;
        await lab.Client.DeleteAsync<PassthroughClaim>("gone", "default");
        await lab.Client.PatchAsync<PassthroughClaim>("gone", "default", EntityPatch.Merge("""{"metadata":{"finalizers":[]} }"""));
        await lab.ClaimAsync("next", "drive-0a51");
        PassthroughClaim next = await SaysAsync(lab, "next", QuotaLedger.Exceeded);
        Assert.EndsWith(
            "held by a claim that is gone (1)",
            next.Status!.Conditions.Find(Conditions.Scheduled)!.Message,
            StringComparison.Ordinal
        );
        gate.SetResult();
        await PlacedAsync(lab, "next");
    }

    private static QuotaReservation Reserved(string uid, string node) =>
        new()
        {
            ClaimUid = uid,
            By = "one-that-died",
            Namespace = "default",
            NodeName = node,
            Devices = "drive-0a51:1",
        };

    private static Task QuotaAsync(EntityClient client, params (string Alias, int Devices)[] limits) =>
        QuotaAsync(client, _ => { }, limits);

    private static Task QuotaAsync(EntityClient client, Action<PciQuota> configure, params (string Alias, int Devices)[] limits)
    {
        var quota = new PciQuota
        {
            Metadata = new V1ObjectMeta { Name = "q" },
            Spec = new PciQuotaSpec { Limits = [.. limits.Select(l => new QuotaLimit { Alias = l.Alias, Devices = l.Devices })] },
        };
        configure(quota);
        return client.CreateAsync(quota);
    }

    private static Task HoldsAsync(ClockedController lab) =>
        lab.UntilAsync(
            "the quota to hold",
            () => lab.Client.GetAsync<PciQuota>("q"),
            q => q.Status?.ObservedGeneration == q.Metadata.Generation
        );

    private static Task<PassthroughClaim> PlacedAsync(ClockedController lab, string name) =>
        lab.UntilAsync(
            $"claim {name} to be placed",
            () => lab.Client.GetAsync<PassthroughClaim>(name, "default"),
            c => c.Status?.NodeName is not null
        );

    private static async Task<string?> ReasonAsync(ClockedController lab, string name) =>
        (await lab.Client.GetAsync<PassthroughClaim>(name, "default"))!.Status?.Conditions.Find(Conditions.Scheduled)?.Reason;

    private static Task<PassthroughClaim> SaysAsync(ClockedController lab, string name, string reason) =>
        lab.UntilAsync(
            $"claim {name} to wait because of {reason}",
            () => lab.Client.GetAsync<PassthroughClaim>(name, "default"),
            c => c.Status?.Conditions.Find(Conditions.Scheduled)?.Reason == reason
        );

    private sealed record Use(int Devices);

    private static int Devices(PciNode node) => (node.Spec.Assignments ?? []).SelectMany(a => a.Devices).Count(d => d.Companion != true);

    private static async Task<int> HeldAsync(EntityClient client) => (await client.ListAsync<PciNode>()).Items.Sum(Devices);

    /// <summary>The most devices that PciNodes gave away at any time, as a watch tells it, change by change.</summary>
    private static async Task<int> MostAsync(EntityClient client, CancellationToken ct)
    {
        EntityList<PciNode> list = await client.ListAsync<PciNode>(ct: ct);
        var held = list.Items.ToDictionary(n => n.Metadata.Name!, Devices);
        (int most, string? version) = (held.Values.Sum(), list.Metadata.ResourceVersion);
        var began = Stopwatch.StartNew();
        try
        {
            while (began.Elapsed < TimeSpan.FromMinutes(10))
            {
                await foreach (
                    WatchEvent<PciNode> change in client.WatchAsync<PciNode>(options: new ListOptions { ResourceVersion = version }, ct: ct)
                )
                {
                    version = change.ResourceVersion;
                    if (change.Object is not { } node)
                        continue;
                    held[node.Metadata.Name!] = Devices(node);
                    most = Math.Max(most, held.Values.Sum());
                }
            }
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
            return most;
        }

        throw new TimeoutException("nobody ended the watch");
    }
}
