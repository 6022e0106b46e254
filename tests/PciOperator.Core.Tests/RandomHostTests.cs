namespace PciOperator.Core.Tests;

/// <summary>What holds for any host and any claim, over 100,000 seeded random ones.</summary>
[Trait("Cases", "Many")]
public class RandomHostTests
{
    private const int Hosts = 100_000;

    [Fact]
    public void Served_exactly_when_an_assignment_exists_and_then_by_the_rules()
    {
        int served = 0;
        int refused = 0;
        Parallel.ForEach(
            TestScope.Seeds(Hosts, 10),
            seed =>
            {
                var hosts = new RandomHosts(seed);
                List<NodeDevice> devices = hosts.Devices(out Dictionary<int, int?> sockets);
                ClaimRequirements claim = hosts.Claim();
                var judge = new BruteForce(devices, sockets, claim);
                var node = NodeInventory.Build("n", devices, sockets);
                switch (Allocator.TryNode(node, claim))
                {
                    case NodeVerdict.Served s:
                        Assert.True(judge.Fault(s.Allocation) is null, $"seed {seed}: {judge.Fault(s.Allocation)}");
                        if (s.Allocation.NumaPreferenceMet is { } met)
                            Assert.True(met == judge.Feasible(true), $"seed {seed}: says that the preference is {(met ? "" : "not ")}met");
                        CheckRelease(node, s.Allocation, seed);
                        Interlocked.Increment(ref served);
                        break;
                    case NodeVerdict.Refused r:
                        Assert.False(judge.Feasible(false), $"seed {seed}: refused ({r.Reason.Text}) though it can be served");
                        Interlocked.Increment(ref refused);
                        break;
                    default:
                        Assert.Fail($"seed {seed}: too complex");
                        break;
                }
            }
        );
        // Both kinds are there in numbers, or the hosts test nothing.
        Assert.True(
            served > TestScope.Cases(Hosts, 10) / 5 && refused > TestScope.Cases(Hosts, 10) / 5,
            $"{served} served, {refused} refused"
        );
    }

    [Fact]
    public void Order_changes_nothing()
    {
        Parallel.ForEach(
            TestScope.Seeds(Hosts, 10),
            seed =>
            {
                var hosts = new RandomHosts(seed);
                List<NodeDevice> devices = hosts.Devices(out Dictionary<int, int?> sockets);
                ClaimRequirements claim = hosts.Claim();
                string first = Answer(Allocator.TryNode(NodeInventory.Build("n", devices, sockets), claim));
                hosts.Shuffle(devices);
                var aliases = claim
                    .Requests.Select(r => r.Alias)
                    .Distinct()
                    .ToDictionary(
                        a => a,
                        a =>
                        {
                            List<AliasSelector> anyOf = [.. a.AnyOf];
                            hosts.Shuffle(anyOf);
                            return a with { AnyOf = anyOf };
                        }
                    );
                List<DeviceRequest> requests = [.. claim.Requests.Select(r => r with { Alias = aliases[r.Alias] })];
                hosts.Shuffle(requests);
                string second = Answer(Allocator.TryNode(NodeInventory.Build("n", devices, sockets), claim with { Requests = requests }));
                Assert.True(first == second, $"seed {seed}: {first} / {second}");
            }
        );
    }

    // Taken and given back: the node is as it was.
    private static void CheckRelease(NodeInventory node, NodeAllocation allocation, int seed)
    {
        NodeInventory taken = node.Take(allocation, "claim");
        foreach (AllocatedDevice d in allocation.Devices)
            Assert.True(taken.WhyNotOffered(d.Address) is not null, $"seed {seed}: {d.Address} is offered though taken");
        NodeInventory after = taken.Release("claim");
        foreach (NodeDevice d in node.Devices)
        {
            Assert.True(
                node.WhyNotOffered(d.Function.Address) == after.WhyNotOffered(d.Function.Address),
                $"seed {seed}: {d.Function.Address} differs after release"
            );
        }

        Assert.True(after.Devices.SequenceEqual(node.Devices), $"seed {seed}: release is not the inverse of allocation");
    }

    private static string Answer(NodeVerdict verdict) =>
        verdict switch
        {
            NodeVerdict.Served s => string.Join(" ", s.Allocation.Devices)
                + string.Join(",", s.Allocation.NumaNodes)
                + s.Allocation.NumaPreferenceMet,
            NodeVerdict.Refused r => r.Reason.Text,
            _ => "too complex",
        };
}
