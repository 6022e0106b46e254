using System.Diagnostics.CodeAnalysis;
using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>Which of many nodes that fit is chosen, and which devices: each preference by itself.</summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
public class ChoiceTests
{
    private static readonly AliasDefinition Vf = Alias("vf", "8086:10ca", DeviceType.Vf);
    private static readonly AliasDefinition Gpu = Alias("gpu", "10de:1e04");

    [Fact]
    public void With_more_nodes_than_are_compared_the_choice_does_not_depend_on_how_the_snapshot_came_to_be()
    {
        var random = new Random(11);
        // Each node breaks up some whole PF for the claim, so none is good enough to stop at; sizes differ.
        List<NodeInventory> nodes =
        [
            .. Enumerable
                .Range(0, 3 * NodeChoice.MostCompared)
                .Select(i =>
                    NodeInventory.Build($"n{i:d4}", [.. Enumerable.Range(1, random.Next(1, 4)).SelectMany(c => Card(c, random.Next(2, 9)))])
                ),
        ];
        foreach (NodeStrategy strategy in Enum.GetValues<NodeStrategy>())
        {
            var options = new PlacementOptions { Strategy = strategy };
            NodeAllocation first = Allocator.Decide(ClusterInventory.Of(nodes), Claim((Vf, 2)), options: options).Allocation!;
            for (int round = 0; round < 3; round++)
            {
                NodeInventory[] shuffled = [.. nodes];
                random.Shuffle(shuffled);
                ClusterInventory grown = shuffled.Aggregate(ClusterInventory.Empty, (c, n) => c.With(n));
                NodeAllocation other = Allocator.Decide(grown, Claim((Vf, 2)), options: options).Allocation!;
                Assert.Equal(first.Node, other.Node);
                Assert.Equal(first.Devices, other.Devices);
            }
        }
    }

    [Fact]
    public void Nodes_that_a_filter_refuses_are_not_counted_among_those_compared()
    {
        // The small nodes come first and are filtered; of the larger ones the last is best: its PF is broken up already.
        List<NodeInventory> nodes =
        [
            .. Enumerable.Range(0, NodeChoice.MostCompared + 10).Select(i => NodeInventory.Build($"a{i:d4}", [.. Card(1, 2)])),
        ];
        nodes.Add(NodeInventory.Build("b1", [.. Card(1, 8)]));
        List<NodeDevice> broken = [.. Card(1, 9)];
        broken[1] = broken[1] with { Owner = "x" };
        nodes.Add(NodeInventory.Build("b2", broken));
        Decision decision = Allocator.Decide(
            ClusterInventory.Of(nodes),
            Claim((Vf, 2)),
            n => n[0] == 'a' ? new RefusalReason("Cordoned", "are cordoned") : null
        );
        Assert.Equal("b2", decision.Allocation!.Node);
    }

    [Fact]
    public void A_device_that_goes_alone_is_taken_before_one_whose_group_goes_with_it()
    {
        var shared = NodeInventory.Build(
            "a",
            [Device("0000:01:00.0", "10de:1e04", group: 1), Device("0000:01:00.1", "10de:10f7", group: 1)]
        );
        var alone = NodeInventory.Build("b", [.. Enumerable.Range(1, 5).Select(i => Device($"0000:{i:x2}:00.0", "10de:1e04"))]);
        Assert.Equal("b", Allocator.Decide(ClusterInventory.Of([shared, alone]), Claim((Gpu, 1))).Allocation!.Node);
        var both = NodeInventory.Build(
            "n",
            [
                Device("0000:01:00.0", "10de:1e04", group: 1),
                Device("0000:01:00.1", "10de:10f7", group: 1),
                Device("0000:02:00.0", "10de:1e04"),
            ]
        );
        Assert.Equal("0000:02:00.0", Addresses(Served(both, Claim((Gpu, 1)))));
    }

    [Fact]
    public void A_PF_with_few_VFs_is_given_away_before_one_with_many()
    {
        var node = NodeInventory.Build("n", [.. Card(1, 6), .. Card(2, 1), .. Card(3, 4)]);
        Assert.Equal("0000:02:00.0", Addresses(Served(node, Claim((Alias("pf", "8086:10c9", DeviceType.Pf), 1)))));
    }

    [Fact]
    public void A_guest_whose_place_is_open_gets_the_smallest_NUMA_node_that_is_enough_so_that_larger_ones_stay_whole()
    {
        NodeDevice[] devices =
        [
            .. new[] { 0, 0, 0, 0, 1, 1, 2, 2, 2 }.Select((numa, i) => Device($"0000:{i + 1:x2}:00.0", "10de:1e04", numa: numa)),
        ];
        var node = NodeInventory.Build("n", devices);
        foreach (NumaPolicy policy in new[] { NumaPolicy.Required, NumaPolicy.Preferred, NumaPolicy.Legacy })
        {
            Assert.Equal([1], Served(node, Claim((Gpu, 2)) with { NumaPolicy = policy }).NumaNodes);
            Assert.Equal([2], Served(node, Claim((Gpu, 3)) with { NumaPolicy = policy }).NumaNodes);
            Assert.Equal([0], Served(node, Claim((Gpu, 4)) with { NumaPolicy = policy }).NumaNodes);
        }
    }

    [Fact]
    public void Of_equal_nodes_and_devices_the_first_by_name_and_address_is_taken()
    {
        var cluster = ClusterInventory.Of([
            .. new[] { "c", "a", "b" }.Select(n =>
                NodeInventory.Build(n, [Device("0000:03:00.0", "10de:1e04"), Device("0000:02:00.0", "10de:1e04")])
            ),
        ]);
        NodeAllocation allocation = Allocator.Decide(cluster, Claim((Gpu, 1))).Allocation!;
        Assert.Equal("a", allocation.Node);
        Assert.Equal("0000:02:00.0", Addresses(allocation));
    }
}
