using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>Choosing among nodes, and saying why none will do.</summary>
public class ClusterTests
{
    private static readonly AliasDefinition A1 = Alias("a1");

    private static NodeInventory Node(string name, int devices, int owned = 0, string ids = "8086:10c9", int? numa = null) =>
        NodeInventory.Build(
            name,
            [
                .. Enumerable
                    .Range(0, devices)
                    .Select(i => Device($"0000:{i + 1:x2}:00.0", ids, numa: numa, owner: i < owned ? "x" : null, group: i)),
            ]
        );

    [Fact]
    public void The_summary_counts_the_nodes_by_reason()
    {
        var cluster = ClusterInventory.Of([
            .. Enumerable.Range(0, 7).Select(i => Node($"none{i}", 2, ids: "8086:0001")),
            .. Enumerable.Range(0, 3).Select(i => Node($"few{i}", 2, owned: 1)),
            .. Enumerable.Range(0, 2).Select(i => Node($"numa{i}", 2)),
        ]);
        Decision decision = Allocator.Decide(cluster, Claim((A1, 2)) with { NumaPolicy = NumaPolicy.Required });
        Assert.Null(decision.Allocation);
        Assert.Equal(
            "0/12 nodes can serve it: 7 have no device of alias a1, 3 have too few free (1 of 2), 2 fail NUMA policy required.",
            decision.Summary
        );
        Assert.Equal(12, decision.Refusals.Sum(r => r.Nodes));
    }

    [Fact]
    public void A_nodes_own_filter_comes_first_in_the_reasons()
    {
        var cluster = ClusterInventory.Of([Node("n1", 2), Node("n2", 1), Node("n3", 2, ids: "8086:0001")]);
        Decision decision = Allocator.Decide(
            cluster,
            Claim((A1, 2)),
            n => n is "n1" or "n3" ? new RefusalReason("Cordoned", "are cordoned") : null
        );
        Assert.Equal("0/3 nodes can serve it: 2 are cordoned, 1 has too few free (1 of 2).", decision.Summary);
    }

    [Fact]
    public void An_empty_cluster_says_so() =>
        Assert.Equal("0/0 nodes can serve it.", Allocator.Decide(ClusterInventory.Empty, Claim((A1, 1))).Summary);

    [Fact]
    public void Packing_takes_the_node_with_the_fewest_free_devices_and_spreading_the_one_with_most()
    {
        var cluster = ClusterInventory.Of([Node("a", 6), Node("b", 4, owned: 2), Node("c", 4, owned: 2), Node("d", 8)]);
        Assert.Equal("b", Allocator.Decide(cluster, Claim((A1, 2))).Allocation!.Node);
        Assert.Equal(
            "d",
            Allocator.Decide(cluster, Claim((A1, 2)), options: new PlacementOptions { Strategy = NodeStrategy.Spread }).Allocation!.Node
        );
        Assert.Equal(
            "c",
            Allocator.Decide(cluster, Claim((A1, 2)), n => n == "b" ? new RefusalReason("x", "are x") : null).Allocation!.Node
        );
    }

    [Fact]
    public void A_node_with_a_broken_PF_is_better_than_one_with_whole_ones()
    {
        AliasDefinition vf = Alias("vf", "8086:10ca", DeviceType.Vf);
        List<NodeDevice> broken = [.. Card(1, 4), .. Card(2, 4), .. Card(3, 4)];
        broken[1] = broken[1] with { Owner = "x" };
        var cluster = ClusterInventory.Of([NodeInventory.Build("whole", [.. Card(1, 4)]), NodeInventory.Build("broken", broken)]);
        Assert.Equal("broken", Allocator.Decide(cluster, Claim((vf, 2))).Allocation!.Node);
    }

    [Fact]
    public void A_node_that_meets_the_preference_is_better()
    {
        var apart = NodeInventory.Build("apart", [Device("0000:01:00.0", numa: 0), Device("0000:02:00.0", numa: 1)]);
        var together = NodeInventory.Build(
            "together",
            [Device("0000:01:00.0", numa: 1), Device("0000:02:00.0", numa: 1), Device("0000:03:00.0", numa: 1)]
        );
        Decision decision = Allocator.Decide(
            ClusterInventory.Of([apart, together]),
            Claim((A1, 2)) with
            {
                NumaPolicy = NumaPolicy.Preferred,
            }
        );
        Assert.Equal("together", decision.Allocation!.Node);
    }

    [Fact]
    public void Snapshots_do_not_change_and_nodes_come_and_go()
    {
        ClusterInventory none = ClusterInventory.Empty;
        ClusterInventory cluster = none;
        for (int i = 0; i < 300; i++)
            cluster = cluster.With(Node($"n{i * 7919 % 300:d3}", (i % 3) + 1));
        Assert.Equal(0, none.Count);
        Assert.Equal(300, cluster.Count);
        Assert.Equal(Enumerable.Range(0, 300).Select(i => $"n{i:d3}"), cluster.Nodes.Select(n => n.Name));
        ClusterInventory changed = cluster.With(Node("n150", 9));
        Assert.Equal(300, changed.Count);
        Assert.Equal("n150", Allocator.Decide(changed, Claim((A1, 9))).Allocation!.Node);
        Assert.Null(Allocator.Decide(cluster, Claim((A1, 9))).Allocation);
        ClusterInventory rest = changed;
        for (int i = 0; i < 300; i++)
        {
            rest = rest.Without($"n{i:d3}");
            Assert.Equal(299 - i, rest.Count);
            Assert.Null(rest.Find($"n{i:d3}"));
        }

        Assert.Same(rest, rest.Without("n000"));
        Assert.NotNull(changed.Find("n299"));
    }

    [Fact]
    [Trait("Cases", "Many")]
    public void A_cluster_answers_as_its_nodes_do_one_by_one()
    {
        foreach (int seed in TestScope.Seeds(4000, 10))
        {
            var hosts = new RandomHosts(seed);
            var nodes = new List<NodeInventory>();
            for (int i = 0; i < 12; i++)
            {
                List<NodeDevice> devices = hosts.Devices(out Dictionary<int, int?> sockets);
                nodes.Add(NodeInventory.Build($"n{i:d2}", devices, sockets));
            }

            ClaimRequirements claim = hosts.Claim();
            if (hosts.Chance(3))
            {
                claim = claim with
                {
                    Excluded = nodes
                        .Take(3)
                        .SelectMany(n => n.Devices.Take(2).Select(d => new DeviceExclusion(n.Name, d.Function.Address)))
                        .ToHashSet(),
                };
            }

            var built = ClusterInventory.Of(nodes);
            hosts.Shuffle(nodes);
            // Each was something else before.
            ClusterInventory grown = nodes.Aggregate(
                ClusterInventory.Empty,
                (c, n) => c.With(NodeInventory.Build(n.Name, hosts.Devices(out Dictionary<int, int?> sockets), sockets))
            );
            hosts.Shuffle(nodes);
            grown = nodes.Aggregate(grown, (c, n) => c.With(n));
            RefusalReason? Filter(string name) => name is "n03" ? new RefusalReason("Cordoned", "are cordoned") : null;
            Decision decision = Allocator.Decide(built, claim, Filter);
            Decision same = Allocator.Decide(grown, claim, Filter);
            Assert.Equal(decision.Summary, same.Summary);

            var each = nodes.ToDictionary(n => n.Name, n => Allocator.TryNode(n, claim));
            List<string> served = [.. each.Where(p => p.Value is NodeVerdict.Served && p.Key != "n03").Select(p => p.Key)];
            if (decision.Allocation is { } allocation)
            {
                Assert.Contains(allocation.Node, served);
                Assert.Equal(((NodeVerdict.Served)each[allocation.Node]).Allocation.Devices, allocation.Devices);
            }
            else
            {
                Assert.Empty(served);
                var expected = each.Select(p => Filter(p.Key) ?? ((NodeVerdict.Refused)p.Value).Reason)
                    .GroupBy(r => r)
                    .ToDictionary(g => g.Key, g => g.Count());
                Assert.Equal(expected.Count, decision.Refusals.Count);
                Assert.All(decision.Refusals, r => Assert.Equal(expected[r.Reason], r.Nodes));
            }
        }
    }
}
