using PciOperator.Api;

namespace PciOperator.Vm.Tests;

/// <summary>Two agents on one host: the state folder is one's at a time.</summary>
public sealed class TwoAgentsTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    [ClusterFact]
    public async Task A_second_agent_says_who_has_the_host_and_stays_still_until_that_one_ends()
    {
        await ClaimNicAsync("nic");
        string first = await Machine.OutputOfAsync("cat /run/agent.pid");
        await Machine.OutputOfAsync(
            $"setsid /mnt/agent/pcioperator-agent --node-name {Cluster.Node} --kubeconfig /mnt/kubeconfig/agent --log-format Text --health-address 127.0.0.1:8082 > /run/second.log 2>&1 & echo $! > /run/second.pid"
        );
        try
        {
            await Machine.WaitUntilAsync("grep -q 'Another agent works on this host' /run/second.log");
            Assert.Contains(
                first,
                await Machine.OutputOfAsync("grep -m 1 'Another agent works on this host' /run/second.log"),
                StringComparison.Ordinal
            );

            // The first goes on as if it were alone.
            await Cluster.ReleaseAsync("nic");
            await AssertGivenBackAsync(Topology.Nic1, "igb");
            await Cluster.ClaimAsync("again", "nic");
            ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("again")).Status!.Devices!);
            Assert.Equal("0", await Machine.OutputOfAsync("grep -ci claim /run/second.log || true"));

            // The second takes over when the first has ended, and what it left.
            await Cluster.KillAgentAsync();
            await Machine.OutputOfAsync("mv /run/second.pid /run/agent.pid");
            await Cluster.ReleaseAsync("again");
            await AssertGivenBackAsync(device.Address, "igb");
        }
        finally
        {
            await Machine.RunAsync(
                "[ ! -e /run/second.pid ] || kill -9 $(cat /run/second.pid); rm -f /run/second.pid; kill -9 $(cat /run/agent.pid)"
            );
            await Cluster.StartAgentAsync();
        }
    }
}
