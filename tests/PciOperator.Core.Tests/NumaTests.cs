using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>NUMA policies, with a guest whose nodes are given, that has none, or that is not known yet.</summary>
public class NumaTests
{
    private static readonly Dictionary<int, int?> TwoSockets = new()
    {
        [0] = 0,
        [1] = 0,
        [2] = 1,
        [3] = 1,
    };

    private static NodeInventory Node(params int?[] numaOfEach) =>
        NodeInventory.Build("n", [.. numaOfEach.Select((n, i) => Device($"0000:{i + 1:x2}:00.0", numa: n))], TwoSockets);

    private static ClaimRequirements Ask(NumaPolicy policy, int count, GuestNuma guest) =>
        Claim((Alias("a1", policy: policy), count)) with
        {
            GuestNuma = guest,
        };

    [Fact]
    public void Required_with_nodes_given_takes_those_nodes_only()
    {
        Assert.Equal("0000:02:00.0", Addresses(Served(Node(0, 1, null), Ask(NumaPolicy.Required, 1, GuestNuma.On(1)))));
        Assert.Equal("fail NUMA policy required", Refused(Node(0, 1, null), Ask(NumaPolicy.Required, 2, GuestNuma.On(1))).Text);
        Assert.Equal([0, 1], Served(Node(0, 1, null), Ask(NumaPolicy.Required, 2, GuestNuma.On(0, 1))).NumaNodes);
    }

    [Fact]
    public void Legacy_also_takes_devices_of_unknown_node_but_after_local_ones()
    {
        Assert.Equal("0000:03:00.0", Addresses(Served(Node(0, null, 1), Ask(NumaPolicy.Legacy, 1, GuestNuma.On(1)))));
        Assert.Equal("0000:02:00.0 0000:03:00.0", Addresses(Served(Node(0, null, 1), Ask(NumaPolicy.Legacy, 2, GuestNuma.On(1)))));
        Assert.Equal("fail NUMA policy legacy", Refused(Node(0, null, 1), Ask(NumaPolicy.Legacy, 3, GuestNuma.On(1))).Text);
    }

    [Fact]
    public void Preferred_takes_what_there_is_and_says_whether_the_preference_is_met()
    {
        Assert.True(Served(Node(0, 1), Ask(NumaPolicy.Preferred, 1, GuestNuma.On(1))).NumaPreferenceMet);
        NodeAllocation spread = Served(Node(0, 1), Ask(NumaPolicy.Preferred, 2, GuestNuma.On(1)));
        Assert.False(spread.NumaPreferenceMet);
        Assert.Equal([0, 1], spread.NumaNodes);
    }

    [Fact]
    public void Socket_takes_nodes_of_the_guests_sockets_and_only_its_nodes_when_a_socket_is_unknown()
    {
        Assert.Equal("0000:02:00.0", Addresses(Served(Node(2, 1, null), Ask(NumaPolicy.Socket, 1, GuestNuma.On(0)))));
        Assert.Equal("fail NUMA policy socket", Refused(Node(2, 3, null), Ask(NumaPolicy.Socket, 1, GuestNuma.On(0))).Text);
        var unknown = NodeInventory.Build(
            "n",
            [Device("0000:01:00.0", numa: 1), Device("0000:02:00.0", numa: 0)],
            new Dictionary<int, int?>
            {
                [0] = 0,
                [1] = 0,
                [2] = null,
            }
        );
        Assert.Equal("0000:02:00.0", Addresses(Served(unknown, Ask(NumaPolicy.Socket, 1, GuestNuma.On(0)))));
        Assert.Equal(RefusalCodes.NumaPolicy, Refused(unknown, Ask(NumaPolicy.Socket, 2, GuestNuma.On(0))).Code);
    }

    [Fact]
    public void A_guest_without_NUMA_is_not_filtered()
    {
        foreach (NumaPolicy policy in Enum.GetValues<NumaPolicy>())
        {
            NodeAllocation allocation = Served(Node(0, null, 3), Ask(policy, 3, GuestNuma.None));
            Assert.Null(allocation.NumaPreferenceMet);
        }

        Assert.Equal(GuestNuma.None, GuestNuma.On());
    }

    [Fact]
    public void Unknown_guest_required_puts_its_devices_on_one_node()
    {
        Assert.Equal([1], Served(Node(0, 1, 1, null), Ask(NumaPolicy.Required, 2, GuestNuma.Unknown)).NumaNodes);
        Assert.Equal("fail NUMA policy required", Refused(Node(0, 1, 2, null, null), Ask(NumaPolicy.Required, 2, GuestNuma.Unknown)).Text);
        Assert.Equal("fail NUMA policy required", Refused(Node(null, null), Ask(NumaPolicy.Required, 2, GuestNuma.Unknown)).Text);
    }

    [Fact]
    public void Unknown_guest_socket_puts_its_devices_on_one_socket()
    {
        Assert.Equal([2, 3], Served(Node(0, 2, 3), Ask(NumaPolicy.Socket, 2, GuestNuma.Unknown)).NumaNodes);
        Assert.Equal("fail NUMA policy socket", Refused(Node(0, 2), Ask(NumaPolicy.Socket, 2, GuestNuma.Unknown)).Text);
        // One node of it, where that can be.
        Assert.Equal([1], Served(Node(0, 1, 1), Ask(NumaPolicy.Socket, 2, GuestNuma.Unknown)).NumaNodes);
        ClaimRequirements near = Claim((Alias("a1", "8086:0001", policy: NumaPolicy.Socket), 1), (Alias("a2", "8086:0002"), 1)) with
        {
            GuestNuma = GuestNuma.Unknown,
        };
        var host = NodeInventory.Build(
            "n",
            [
                Device("0000:01:00.0", "8086:0001", numa: 0),
                Device("0000:02:00.0", "8086:0001", numa: 2),
                Device("0000:03:00.0", "8086:0002", numa: 2),
            ],
            TwoSockets
        );
        Assert.Equal("0000:02:00.0 0000:03:00.0", Addresses(Served(host, near)));
    }

    [Fact]
    public void Unknown_guest_preferred_tries_one_node_and_says_so()
    {
        NodeAllocation one = Served(Node(0, 1, 1), Ask(NumaPolicy.Preferred, 2, GuestNuma.Unknown));
        Assert.True(one.NumaPreferenceMet);
        Assert.Equal([1], one.NumaNodes);
        Assert.False(Served(Node(0, 1, null), Ask(NumaPolicy.Preferred, 2, GuestNuma.Unknown)).NumaPreferenceMet);
    }

    [Fact]
    public void Unknown_guest_keeps_whole_nodes_whole()
    {
        // Two on node 0, four on node 1: a claim for two takes the two, so that four stay together.
        Assert.Equal([0], Served(Node(1, 1, 0, 1, 0, 1), Ask(NumaPolicy.Required, 2, GuestNuma.Unknown)).NumaNodes);
        Assert.Equal([0], Served(Node(1, 1, 0, 1, 0, 1), Ask(NumaPolicy.Legacy, 2, GuestNuma.Unknown)).NumaNodes);
    }

    [Fact]
    public void Policies_that_differ_fit_together()
    {
        // required on one node, socket on the same socket.
        var node = NodeInventory.Build(
            "n",
            [
                Device("0000:01:00.0", "8086:0001", numa: 0),
                Device("0000:02:00.0", "8086:0001", numa: 2),
                Device("0000:03:00.0", "8086:0002", numa: 3),
            ],
            TwoSockets
        );
        ClaimRequirements claim = Claim(
            (Alias("a1", "8086:0001", policy: NumaPolicy.Required), 1),
            (Alias("a2", "8086:0002", policy: NumaPolicy.Socket), 1)
        );
        Assert.Equal("0000:02:00.0 0000:03:00.0", Addresses(Served(node, claim)));
        // legacy and preferred go where they can.
        claim = Claim((Alias("a1", "8086:0001", policy: NumaPolicy.Required), 1), (Alias("a2", "8086:0002", policy: NumaPolicy.Legacy), 1));
        Assert.Equal(2, Served(node, claim).Devices.Count);
    }

    [Fact]
    public void A_requests_own_policy_wins_then_the_claims_then_the_alias()
    {
        ClaimRequirements claim = Ask(NumaPolicy.Required, 2, GuestNuma.On(0)) with { NumaPolicy = NumaPolicy.Preferred };
        Assert.False(Served(Node(0, 1), claim).NumaPreferenceMet);
        ClaimRequirements own = claim with { Requests = [claim.Requests[0] with { NumaPolicy = NumaPolicy.Required }] };
        Assert.Equal(RefusalCodes.NumaPolicy, Refused(Node(0, 1), own).Code);
    }
}
