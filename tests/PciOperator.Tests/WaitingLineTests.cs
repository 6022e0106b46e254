using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;

namespace PciOperator.Tests;

/// <summary>In which order claims that wait are served.</summary>
public sealed class WaitingLineTests
{
    [Fact]
    public void The_highest_priority_is_first_and_namespaces_take_turns_whatever_order_workers_come_in()
    {
        for (int seed = 0; seed < 50; seed++)
        {
            var random = new Random(seed);
            var brought = new Queue<EntityKey>();
            var line = new WaitingLine(brought.Enqueue);
            var claims = Enumerable
                .Range(0, 60)
                .Select(i => (Claim: Claim($"c{i:00}", $"team-{random.Next(4)}", made: i), Priority: random.Next(3)))
                .ToList();
            foreach ((PassthroughClaim claim, int priority) in claims)
                line.Wake(claim, priority);
            (PassthroughClaim Claim, int Priority)[] coming = [.. claims];
            random.Shuffle(coming);
            var served = new List<(PassthroughClaim Claim, int Priority)>();
            foreach ((PassthroughClaim Claim, int Priority) one in coming)
                Come(line, one, served);
            while (brought.TryDequeue(out EntityKey key))
            {
                if (claims.Find(c => c.Claim.Metadata.Name == key.Name) is { Claim: not null } one && !served.Contains(one))
                    Come(line, one, served);
            }

            Assert.Equal(claims.Count, served.Count);
            Assert.Equal(served.OrderByDescending(s => s.Priority).Select(s => s.Priority), served.Select(s => s.Priority));
            foreach (IGrouping<int, (PassthroughClaim Claim, int Priority)> level in served.GroupBy(s => s.Priority))
            {
                // Of the namespaces that still have claims none is served twice before the others are once.
                var left = level.GroupBy(s => s.Claim.Metadata.NamespaceProperty).ToDictionary(g => g.Key, g => g.Count());
                var since = left.Keys.ToDictionary(n => n, _ => 0);
                foreach ((PassthroughClaim claim, _) in level)
                {
                    string ns = claim.Metadata.NamespaceProperty;
                    foreach (string other in left.Where(l => l.Key != ns && l.Value > 0).Select(l => l.Key))
                        Assert.InRange(++since[other], 1, left.Count);
                    since[ns] = 0;
                    left[ns]--;
                }

                foreach (
                    IGrouping<string, (PassthroughClaim Claim, int Priority)> ns in level.GroupBy(s => s.Claim.Metadata.NamespaceProperty)
                )
                {
                    Assert.Equal(ns.OrderBy(s => s.Claim.Metadata.Name, StringComparer.Ordinal), ns);
                }
            }
        }
    }

    [Fact]
    public void Who_cannot_be_served_holds_nobody_up_and_who_was_woken_while_looked_at_keeps_the_place()
    {
        var brought = new List<string>();
        var line = new WaitingLine(k => brought.Add(k.Name));
        (PassthroughClaim high, PassthroughClaim low) = (Claim("high", "a", 1), Claim("low", "b", 0));
        line.Wake(high, 9);
        line.Begin("low");
        Assert.False(line.TakeTurn(low, 0));
        line.End("low");
        Assert.Equal(["high"], brought);

        // It fails before it comes to its turn, and is woken meanwhile: it will be looked at again, and is still first.
        line.Begin("high");
        line.Wake(high, 9);
        line.End("high");
        Assert.False(line.TakeTurn(low, 0));

        // It fails once more: now the other one is brought.
        line.Begin("high");
        brought.Clear();
        line.End("high");
        Assert.Equal(["low"], brought);
        Assert.True(line.TakeTurn(low, 0));

        // Nobody else is decided meanwhile, and the next one is brought afterwards.
        Assert.False(line.TakeTurn(high, 9));
        brought.Clear();
        line.Leave(low, served: true);
        Assert.Equal(["high"], brought);
        line.Forget("high");
        Assert.True(line.TakeTurn(low, 0));
    }

    [Fact]
    public void Twenty_thousand_claims_are_brought_once_each()
    {
        const int claims = 20_000;
        var all = Enumerable.Range(0, claims).Select(i => Claim($"c{i}", $"team-{i % 500}", i)).ToDictionary(c => c.Metadata.Name!);
        EntityKey next = default;
        int looks = 0;
        var follow = new WaitingLine(k => next = k);
        foreach (PassthroughClaim claim in all.Values)
            follow.Wake(claim, 0);
        Assert.False(follow.TakeTurn(all["c19999"], 0));
        while (all.Count > 0)
        {
            PassthroughClaim claim = all[next.Name];
            looks++;
            Assert.True(follow.TakeTurn(claim, 0));
            all.Remove(next.Name);
            follow.Leave(claim, served: true);
        }

        Assert.Equal(claims, looks);
    }

    [Fact]
    public async Task What_becomes_free_goes_to_the_highest_priority_and_then_to_the_namespace_that_had_nothing()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        await lab.Client.CreateAsync(new V1Namespace { Metadata = new V1ObjectMeta { Name = "other" } });
        await lab.ReportAsync("node-1", products: ["0a51"]);
        await lab.ClaimAsync("holder", "drive-0a51");
        await PlacedAsync(lab, "holder", "default");
        for (int i = 0; i < 20; i++)
            await lab.ClaimAsync($"low-{i:00}", "drive-0a51");
        await lab.ClaimAsync("single", "drive-0a51", ns: "other");
        PassthroughClaim urgent = ViewHosts.Claim("urgent", "drive-0a51");
        urgent.Metadata.Uid = null;
        urgent.Spec.PriorityClassName = "urgent";
        await lab.Client.CreateAsync(urgent);
        await SaysAsync(lab, "urgent", ClaimPriorities.NotFound);
        await lab.Client.CreateAsync(
            new V1PriorityClass
            {
                ApiVersion = "scheduling.k8s.io/v1",
                Kind = "PriorityClass",
                Metadata = new V1ObjectMeta { Name = "urgent" },
                Value = 1000,
            }
        );
        await SaysAsync(lab, "urgent", "NoNodeFits");
        for (int i = 0; i < 20; i++)
            await SaysAsync(lab, $"low-{i:00}", "NoNodeFits");

        await lab.ReportAsync("node-1", products: ["0a51", "0a51"]);
        await PlacedAsync(lab, "urgent", "default");
        Assert.Equal(["holder", "urgent"], await PlacedAsync(lab));
        await lab.ReportAsync("node-1", products: ["0a51", "0a51", "0a51"]);
        await PlacedAsync(lab, "single", "other");
        Assert.Equal(["holder", "single", "urgent"], await PlacedAsync(lab));
        await lab.ReportAsync("node-1", products: ["0a51", "0a51", "0a51", "0a51", "0a51"]);
        await lab.UntilAsync("two more", async () => (await PlacedAsync(lab)).ToList(), placed => placed.Count == 5);
    }

    private static void Come(
        WaitingLine line,
        (PassthroughClaim Claim, int Priority) one,
        List<(PassthroughClaim Claim, int Priority)> served
    )
    {
        line.Begin(one.Claim.Metadata.Uid!);
        if (line.TakeTurn(one.Claim, one.Priority))
        {
            served.Add(one);
            line.Leave(one.Claim, served: true);
        }

        line.End(one.Claim.Metadata.Uid!);
    }

    private static PassthroughClaim Claim(string name, string ns, int made) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = ns,
                Uid = name,
                CreationTimestamp = DateTime.UnixEpoch.AddSeconds(made),
            },
        };

    private static async Task<IEnumerable<string>> PlacedAsync(ClockedController lab) =>
        (await lab.Client.ListAsync<PassthroughClaim>())
            .Items.Where(c => c.Status?.NodeName is not null)
            .Select(c => c.Metadata.Name!)
            .Order(StringComparer.Ordinal);

    private static Task<PassthroughClaim> PlacedAsync(ClockedController lab, string name, string ns) =>
        lab.UntilAsync(
            $"claim {name} to be placed",
            () => lab.Client.GetAsync<PassthroughClaim>(name, ns),
            c => c.Status?.NodeName is not null
        );

    private static Task<PassthroughClaim> SaysAsync(ClockedController lab, string name, string reason) =>
        lab.UntilAsync(
            $"claim {name} to wait because of {reason}",
            () => lab.Client.GetAsync<PassthroughClaim>(name, "default"),
            c => c.Status?.Conditions.Find(Conditions.Scheduled)?.Reason == reason
        );
}
