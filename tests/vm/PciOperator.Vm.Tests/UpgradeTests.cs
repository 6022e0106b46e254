using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>
/// An agent of an earlier commit (tests/vm/earlier-agent) is replaced by today's while claims hold devices, as a DaemonSet's rolling update
/// does it.
/// </summary>
public sealed class UpgradeTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    private const string Earlier = "/mnt/agent-earlier/pcioperator-agent";
    private const string Today = "/mnt/agent/pcioperator-agent";
    private const string State = "/var/lib/pcioperator";

    [UpgradeFact]
    public async Task An_earlier_agents_claims_stay_ready_under_todays_agent_and_are_given_back_by_it()
    {
        await Cluster.KillAgentAsync();
        // A host that no other agent was on.
        await Machine.OutputOfAsync($"rm -rf {State}/*");
        await Cluster.StartAgentAsync(Earlier);
        // One after another: the port of which a VF is claimed is no candidate for the next.
        string[] claims = ["vf", "pf", "dual"];
        var before = new Dictionary<string, PassthroughClaimStatus>();
        await Cluster.OfferAsync("vf", new() { Address = Topology.Nic0 }, NicVf, numVfs: 3);
        before["vf"] = await ReadyAsync("vf");
        await Cluster.OfferAsync("pf", new() { Address = Topology.Nic1 }, Nic);
        before["pf"] = await ReadyAsync("pf");
        await Cluster.OfferAsync("dual", new() { VendorId = "8086", ProductId = "10d3" }, DualNic);
        before["dual"] = await ReadyAsync("dual");
        ClaimDevice[] devices = [.. before.Values.SelectMany(s => s.Devices!)];
        Assert.Equal(4, devices.Length);
        Assert.Equal("3", await Machine.OutputOfAsync($"ls {State}/journal | wc -l"));

        // A guest runs with one of them all the while.
        ClaimDevice port = Assert.Single(before["pf"].Devices!);
        string guest = await HoldOpenAsync("hold", port.IommuGroup.ToString(), port.Address);
        IReadOnlyList<string> nodes = await NodesAsync(devices);

        await StopAsync(Earlier);
        await Cluster.StartAgentAsync();

        // It works, on what it found in the journal.
        await Cluster.ClaimAsync("more", "vf");
        ClaimDevice more = Assert.Single((await Cluster.WaitUntilReadyAsync("more")).Status!.Devices!);
        Assert.DoesNotContain(more.Address, devices.Select(d => d.Address));
        Assert.Equal(Today, await Machine.OutputOfAsync("readlink /proc/$(cat /run/agent.pid)/exe"));
        PciNode node = (await Cluster.Client.GetAsync<PciNode>(Cluster.Node))!;
        Assert.All(node.Status!.Assignments!, a => Assert.Equal(HoldingState.Prepared, a.State));
        Assert.Equal(4, node.Status.Assignments!.Count);

        // Nothing was unbound in between, no claim has moved, and none has said anything else than that it is ready.
        Assert.Equal(nodes, await NodesAsync(devices));
        await Machine.OutputOfAsync($"kill -0 {guest}");
        Assert.Equal("3", await Machine.SysfsAsync(Topology.Nic0, "sriov_numvfs"));
        foreach (string claim in claims)
        {
            PassthroughClaimStatus now = (await Cluster.Client.GetAsync<PassthroughClaim>(claim, "default"))!.Status!;
            Assert.Equal(ClaimPhase.Allocated, now.Phase);
            Assert.Equal(before[claim].Devices!.Select(d => (d.Address, d.Driver)), now.Devices!.Select(d => (d.Address, d.Driver)));
            Assert.Equal(ReadySince(before[claim]), ReadySince(now));
            foreach (ClaimDevice device in now.Devices!)
                await AssertBoundAsync(device.Address, device.IommuGroup);
        }

        await LetGoAsync();
        foreach (string claim in claims.Append("more"))
            await Cluster.ReleaseAsync(claim);
        await AssertGivenBackAsync(port.Address, "igb");
        foreach (ClaimDevice vf in before["vf"].Devices!.Append(more))
            await AssertGivenBackAsync(vf.Address, "igbvf");
        foreach (ClaimDevice function in before["dual"].Devices!)
            await AssertGivenBackAsync(function.Address, "e1000e");
        Assert.Equal("0", await Machine.OutputOfAsync($"ls {State}/journal | wc -l"));
    }

    private async Task<PassthroughClaimStatus> ReadyAsync(string name)
    {
        await Cluster.ClaimAsync(name, name);
        return (await Cluster.WaitUntilReadyAsync(name)).Status!;
    }

    /// <summary>The groups' device nodes: one that was made anew is another inode, or of another time.</summary>
    private async Task<IReadOnlyList<string>> NodesAsync(IEnumerable<ClaimDevice> devices)
    {
        var nodes = new List<string>();
        foreach (int? group in devices.Select(d => d.IommuGroup).Distinct())
            nodes.Add(await Machine.OutputOfAsync($"stat -c '%n %i %t:%T %Y' /dev/vfio/{group}"));
        return nodes;
    }

    private static DateTime ReadySince(PassthroughClaimStatus status)
    {
        V1Condition ready = Assert.Single(status.Conditions!, c => c.Type == Conditions.Ready);
        Assert.Equal("True", ready.Status);
        return ready.LastTransitionTime;
    }

    /// <summary>Ends an agent as a kubelet does.</summary>
    private async Task StopAsync(string program)
    {
        Assert.Equal(program, await Machine.OutputOfAsync("readlink /proc/$(cat /run/agent.pid)/exe"));
        await Machine.OutputOfAsync("kill -TERM $(cat /run/agent.pid)");
        await Machine.WaitUntilAsync("! kill -0 $(cat /run/agent.pid) 2> /dev/null");
    }
}
