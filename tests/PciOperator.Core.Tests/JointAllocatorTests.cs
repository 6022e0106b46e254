using static PciOperator.Core.Tests.TestHosts;

namespace PciOperator.Core.Tests;

/// <summary>Claims that must be on one node are decided together.</summary>
public sealed class JointAllocatorTests
{
    [Fact]
    public void Who_could_take_any_leaves_what_others_need()
    {
        var node = NodeInventory.Build(
            "n",
            [Device("0000:01:00.0", "8086:0a51"), Device("0000:02:00.0", "8086:0a52"), Device("0000:03:00.0", "8086:0a53")]
        );
        AliasDefinition any = new() { Name = "any", AnyOf = [Selector("8086:0a51"), Selector("8086:0a52"), Selector("8086:0a53")] };
        ClaimRequirements[] claims = [One("a", any), One("b", Alias("one", "8086:0a51")), One("c", Alias("two", "8086:0a52"))];
        IReadOnlyList<NodeAllocation> served = JointAllocator.TryNode(node, claims, out _)!;
        Assert.Equal(["0000:03:00.0", "0000:01:00.0", "0000:02:00.0"], served.Select(Addresses));
    }

    [Fact]
    public void Two_claims_do_not_share_a_group()
    {
        var node = NodeInventory.Build("n", [Device("0000:01:00.0", group: 7), Device("0000:01:00.1", group: 7)]);
        AliasDefinition alias = Alias("a");
        Assert.Null(JointAllocator.TryNode(node, [One("a", alias), One("b", alias)], out RefusalReason? reason));
        Assert.Equal(RefusalCodes.Conflict, reason!.Code);
        Assert.Single(JointAllocator.TryNode(node, [Claim((alias, 2))], out _)!);
    }

    [Fact]
    [Trait("Cases", "Many")]
    public void Small_random_hosts_are_shared_out_as_trying_everything_does()
    {
        int served = 0;
        int conflicts = 0;
        foreach (int round in TestScope.Seeds(1500, 12))
        {
            var random = new Random(20261129 + round);
            List<NodeDevice> devices = [.. Hosts(random)];
            var node = NodeInventory.Build("n", devices);
            ClaimRequirements[] claims = [.. Enumerable.Range(0, random.Next(2, 4)).Select(i => RandomClaim(random, $"c{i}", devices))];
            IReadOnlyList<NodeAllocation>? allocations = JointAllocator.TryNode(node, claims, out RefusalReason? reason);
            Assert.NotEqual(RefusalCodes.TooComplex, reason?.Code);
            bool possible = Possible(node, claims);
            Assert.True(possible == allocations is not null, $"round {round}: possible is {possible}, answer: {reason}");
            conflicts += reason?.Code == RefusalCodes.Conflict ? 1 : 0;
            if (allocations is null)
                continue;
            served++;
            // One after the other, each is an allocation that this node can give at that moment.
            NodeInventory left = node;
            foreach ((ClaimRequirements claim, NodeAllocation allocation) in claims.Zip(allocations))
            {
                Assert.All(allocation.Devices, d => Assert.Null(left.Find(d.Address)!.Owner));
                Assert.All(allocation.Devices.Where(d => !d.Companion), d => Assert.Null(left.WhyNotOffered(d.Address)));
                Assert.Null(new BruteForce(devices, node.Sockets.ToDictionary(), claim).Fault(allocation));
                left = left.Take(allocation, claim.ClaimUid);
            }
        }

        Assert.InRange(served, TestScope.Cases(200, 12), TestScope.Cases(1300, 12));
        Assert.InRange(conflicts, TestScope.Cases(20, 12), TestScope.Cases(1300, 12));
    }

    // Every way to give the groups to the claims; the PF and the VFs of a card don't go to different ones.
    private static bool Possible(NodeInventory node, ClaimRequirements[] claims)
    {
        int[] groups = [.. node.Devices.Select(d => d.Function.IommuGroup!.Value).Distinct()];
        int[] owner = new int[groups.Length];
        return Next(0);

        bool Next(int at)
        {
            if (at < groups.Length)
            {
                for (owner[at] = 0; owner[at] < claims.Length; owner[at]++)
                {
                    if (Next(at + 1))
                        return true;
                }

                return false;
            }

            // Each claim from its own groups alone; which of a card's sides is used shows in what is given.
            foreach (bool pf in (ReadOnlySpan<bool>)[false, true])
            {
                if (claims.Select((c, i) => Allocator.TryNode(Own(i, pf), c)).All(v => v is NodeVerdict.Served))
                    return true;
            }

            return false;
        }

        // There is one card at most: with its PF in use no VF is, and the other way round.
        NodeInventory Own(int claim, bool pf) =>
            NodeInventory.Build(
                node.Name,
                [
                    .. node.Devices.Select(d =>
                        owner[Array.IndexOf(groups, d.Function.IommuGroup!.Value)] == claim
                        && d.Function.Type != (pf ? DeviceType.Vf : DeviceType.Pf)
                            ? d
                            : d with
                            {
                                Tags = d.Function.IsVirtual || d.Function.Type == DeviceType.Pf ? null : d.Tags,
                                Owner = d.Function.IsVirtual || d.Function.Type == DeviceType.Pf ? null : "other",
                            }
                    ),
                ],
                node.Sockets
            );
    }

    private static IEnumerable<NodeDevice> Hosts(Random random)
    {
        string[] ids = ["8086:0a51", "8086:0a52", "8086:0a53"];
        int group = 1;
        for (int i = 1; i <= random.Next(2, 6); i++)
        {
            group += random.Next(3) == 0 ? 0 : 1;
            yield return Device($"0000:{i:x2}:00.0", ids[random.Next(3)], numa: group & 1, socket: 0, group: group);
        }

        if (random.Next(2) == 0)
        {
            foreach (NodeDevice d in Card(0x20, 2, 0))
                yield return d;
        }
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
            NumaPolicy policy = random.Next(3) == 0 ? NumaPolicy.Required : NumaPolicy.Legacy;
            requests.Add(
                new DeviceRequest
                {
                    Name = $"r{i}",
                    Alias = new AliasDefinition
                    {
                        Name = $"a{i}",
                        AnyOf = any,
                        NumaPolicy = policy,
                    },
                    Count = random.Next(4) == 0 ? 2 : 1,
                }
            );
        }

        return new ClaimRequirements { ClaimUid = uid, Requests = requests };
    }

    private static ClaimRequirements One(string uid, AliasDefinition alias) => Claim((alias, 1)) with { ClaimUid = uid };
}
