using System.Diagnostics.CodeAnalysis;
using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>
/// Claims that belong together, and one claim on many hard nodes: exact on small hosts, and within a bound of work over all nodes on any.
/// </summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
public sealed class JointBoundTests
{
    // One node's answer that was begun is ended.
    private const long OneAnswer = WorkBounds.Deciding + WorkBounds.Wording + (1 << 20);

    [Fact]
    [Trait("Cases", "Many")]
    public void Small_hosts_with_policies_cards_and_refused_devices_are_shared_out_as_trying_everything_does()
    {
        int served = 0;
        int conflicts = 0;
        foreach (int round in TestScope.Seeds(5000, 5))
        {
            var random = new Random(70_000 + round);
            List<NodeDevice> devices = RandomDevices(random);
            int?[] sockets = random.Next(3) switch
            {
                0 => [0, 0, 1],
                1 => [0, 1, 1],
                _ => [0, null, 1],
            };
            var topology = new Dictionary<int, int?>
            {
                [0] = sockets[0],
                [1] = sockets[1],
                [2] = sockets[2],
            };
            var node = NodeInventory.Build("n", devices, topology);
            ClaimRequirements[] claims = [.. Enumerable.Range(0, random.Next(2, 4)).Select(i => RandomClaim(random, $"c{i}", devices))];
            bool possible = Possible(devices, topology, claims, 0);
            IReadOnlyList<NodeAllocation>? allocations = JointAllocator.TryNode(node, claims, out RefusalReason? reason);
            Assert.NotEqual(RefusalCodes.TooComplex, reason?.Code);
            Assert.True(possible == allocations is not null, $"round {round}: possible is {possible}, answer: {reason}");
            conflicts += reason?.Code == RefusalCodes.Conflict ? 1 : 0;
            served += allocations is null ? 0 : 1;
            List<NodeDevice> left = devices;
            foreach ((ClaimRequirements claim, NodeAllocation allocation) in claims.Zip(allocations ?? []))
            {
                Assert.Null(new BruteForce(SeenBy(left, claim), topology, claim).Fault(allocation));
                Assert.All(allocation.Devices, d => Assert.DoesNotContain(new DeviceExclusion("n", d.Address), claim.Excluded));
                left = Taken(left, allocation.Devices.Select(d => d.Address));
            }
        }

        Assert.InRange(served, TestScope.Cases(300, 5), TestScope.Cases(4000, 5));
        Assert.InRange(conflicts, TestScope.Cases(20, 5), TestScope.Cases(4000, 5));
    }

    [Fact]
    public void Claims_that_are_hard_together_end_at_the_bound_of_the_decision_and_the_rest_of_the_nodes_is_told()
    {
        // Each node hard for each claim alone already, and no two alike.
        ClaimRequirements claim = HardHosts.Of(26, 0).Claim();
        ClusterInventory cluster = HardCluster(40);
        ClaimRequirements[] claims = [claim, claim with { ClaimUid = "other" }, claim with { ClaimUid = "third" }];
        long before = Scratch.Mine.Work;
        IReadOnlyList<NodeAllocation>? allocations = JointAllocator.Decide(
            cluster,
            claims,
            _ => null,
            out IReadOnlyList<(RefusalReason Reason, int Nodes)> refusals
        );
        long taken = Scratch.Mine.Work - before;
        Assert.Null(allocations);
        Assert.Equal(40, refusals.Sum(r => r.Nodes));
        Assert.Contains(refusals, r => r.Reason == RefusalText.NotLookedAt && r.Nodes > 10);
        Assert.True(taken < WorkBounds.Decision + OneAnswer, $"{taken} numbers looked at");
    }

    [Fact]
    public void One_claim_on_many_hard_nodes_ends_at_the_bound_of_the_decision_and_the_rest_of_the_nodes_is_told()
    {
        ClusterInventory cluster = HardCluster(40);
        long before = Scratch.Mine.Work;
        Decision decision = Allocator.Decide(cluster, HardHosts.Of(26, 0).Claim());
        long taken = Scratch.Mine.Work - before;
        Assert.Null(decision.Allocation);
        Assert.Equal(40, decision.Refusals.Sum(r => r.Nodes));
        Assert.Contains(decision.Refusals, r => r.Reason == RefusalText.NotLookedAt && r.Nodes > 10);
        Assert.True(taken < WorkBounds.Decision + OneAnswer, $"{taken} numbers looked at");
        Assert.Equal(
            "1 was not looked at (other nodes took all the work that one decision may take): ask for fewer different devices at once",
            RefusalText.NotLookedAt.Of(1)
        );
    }

    [Fact]
    public void Sixteen_claims_on_a_full_node_that_can_not_be_shared_out_end_at_the_bound_of_a_node()
    {
        // Devices that are no two alike: claims of pairs, one device too few in an odd place.
        List<NodeDevice> devices =
        [
            .. Enumerable.Range(0, 120).Select(i => Device($"0000:{i:x2}:00.0", $"8086:{0x1000 + i:x4}", numa: i % 4, group: i + 1)),
        ];
        ClaimRequirements[] claims =
        [
            .. Enumerable.Range(0, 16).Select(c => Claim((Any(c, 0), 4), (Any(c, 1), 4)) with { ClaimUid = $"c{c}" }),
        ];
        var node = NodeInventory.Build("n", devices);
        long before = Scratch.Mine.Work;
        Assert.Null(JointAllocator.TryNode(node, claims, out RefusalReason? reason));
        Assert.NotNull(reason);
        Assert.True(Scratch.Mine.Work - before < WorkBounds.Together + (17 * OneAnswer), $"{Scratch.Mine.Work - before} numbers looked at");

        static AliasDefinition Any(int claim, int request) =>
            new()
            {
                Name = $"a{claim}-{request}",
                AnyOf = [.. Enumerable.Range(0, 12).Select(i => Selector($"8086:{0x1000 + (((claim * 7) + (request * 5) + i) % 120):x4}"))],
                NumaPolicy = NumaPolicy.Required,
            };
    }

    // Hosts that take the whole bound, each with devices more that make it another shape.
    private static ClusterInventory HardCluster(int nodes)
    {
        IReadOnlyList<NodeDevice> devices = HardHosts.Of(26, 0).Node().Devices;
        var sockets = new Dictionary<int, int?>
        {
            [0] = 0,
            [1] = 0,
            [2] = 1,
            [3] = 1,
        };
        ClusterInventory cluster = ClusterInventory.Empty;
        for (int i = 0; i < nodes; i++)
        {
            NodeDevice[] more = [.. Enumerable.Range(0, i + 1).Select(n => Device($"0009:{n:x2}:00.0", "8086:0a54", group: 100_000 + n))];
            cluster = cluster.With(NodeInventory.Build($"n{i:d2}", [.. devices, .. more], sockets));
        }

        return cluster;
    }

    private static List<NodeDevice> RandomDevices(Random random)
    {
        string[] ids = ["8086:0a51", "8086:0a52", "8086:0a53"];
        var devices = new List<NodeDevice>();
        int group = 1;
        for (int i = 1; i <= random.Next(2, 6); i++)
        {
            group += random.Next(3) == 0 ? 0 : 1;
            devices.Add(Device($"0000:{i:x2}:00.0", ids[random.Next(3)], numa: random.Next(3), group: group));
        }

        if (random.Next(3) != 0)
        {
            devices.AddRange(
                Card(0x20, random.Next(1, 3), random.Next(3)).Select(d => d with { Function = d.Function with { Socket = null } })
            );
        }

        return devices;
    }

    private static ClaimRequirements RandomClaim(Random random, string uid, List<NodeDevice> devices)
    {
        var choices = devices.Select(d => (Ids: $"{d.Function.VendorId}:{d.Function.ProductId}", d.Function.Type)).Distinct().ToList();
        var requests = new List<DeviceRequest>();
        for (int i = 0; i < random.Next(1, 3); i++)
        {
            AliasSelector[] any =
            [
                .. Enumerable
                    .Range(0, random.Next(1, 3))
                    .Select(_ => choices[random.Next(choices.Count)])
                    .Select(c => Selector(c.Ids, c.Type)),
            ];
            requests.Add(
                new DeviceRequest
                {
                    Name = $"r{i}",
                    Alias = new AliasDefinition
                    {
                        Name = $"a{i}",
                        AnyOf = any,
                        NumaPolicy = (NumaPolicy)random.Next(4),
                    },
                    Count = random.Next(5) == 0 ? 2 : 1,
                }
            );
        }

        GuestNuma guest = random.Next(3) switch
        {
            0 => GuestNuma.None,
            1 => GuestNuma.Unknown,
            _ => GuestNuma.On(random.Next(3)),
        };
        DeviceExclusion[] refused =
            random.Next(5) == 0 ? [new DeviceExclusion("n", devices[random.Next(devices.Count)].Function.Address)] : [];
        return new ClaimRequirements
        {
            ClaimUid = uid,
            Requests = requests,
            GuestNuma = guest,
            Excluded = refused.ToHashSet(),
        };
    }

    private static List<NodeDevice> SeenBy(List<NodeDevice> devices, ClaimRequirements claim) =>
        [
            .. devices.Select(d =>
                claim.Excluded.Contains(new DeviceExclusion("n", d.Function.Address)) ? d with { BlockedReason = "refused" } : d
            ),
        ];

    private static List<NodeDevice> Taken(List<NodeDevice> devices, IEnumerable<PciAddress> addresses)
    {
        HashSet<PciAddress> gone = [.. addresses];
        return [.. devices.Select(d => gone.Contains(d.Function.Address) ? d with { Owner = "other" } : d)];
    }

    // Every set of devices for the first claim, judged by the rules alone, then the others from what is left.
    private static bool Possible(List<NodeDevice> left, Dictionary<int, int?> sockets, ClaimRequirements[] claims, int at)
    {
        if (at == claims.Length)
            return true;
        var judge = new BruteForce(SeenBy(left, claims[at]), sockets, claims[at]);
        var tried = new HashSet<string>();
        foreach (HashSet<PciAddress> whole in judge.Allocations())
        {
            if (tried.Add(string.Join(',', whole.Order())) && Possible(Taken(left, whole), sockets, claims, at + 1))
                return true;
        }

        return false;
    }
}
