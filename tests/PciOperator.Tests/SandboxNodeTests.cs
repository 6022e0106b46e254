using k8s.Models;
using PciOperator.Api;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>The sandbox's nodes, as a person looks at them.</summary>
public sealed class SandboxNodeTests
{
    [Fact]
    public async Task Describe_node_shows_a_machine_with_its_boot_and_its_pools()
    {
        await using LabCluster lab = await (await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1)).WithSamplesAsync();
        await lab.UntilAsync(
            "the Node's condition",
            () => lab.Client.GetAsync<V1Node>("node-1"),
            n =>
                n.Status?.Conditions?.Any(c =>
                    c
                        is {
                            Type: PciOperatorApi.NodeConditionType,
                            Status: "True",
                            LastHeartbeatTime: not null,
                            LastTransitionTime: not null
                        }
                ) == true
        );
        string described = await Kubectl.RunAsync(lab.KubeconfigText, "describe", "node", "node-1");
        Assert.Matches($@"Boot ID: +{lab.Host("node-1").BootId}\n", described);
        Assert.Matches(@"Kubelet Version: +v1\.36", described);
        Assert.Matches(@"Capacity:\n +cpu: +64\n", described);
        Assert.Matches(@"Allocatable:\n +cpu: +63\n", described);
        Assert.Matches(@"PciPassthroughReady +True", described);
        Assert.Matches(@"Ready +True", described);
        Assert.DoesNotContain("Jan 0001", described, StringComparison.Ordinal);
        Assert.DoesNotContain("<unset>", described.Split("Taints:")[0], StringComparison.Ordinal);
        Assert.DoesNotContain("NaN", described, StringComparison.Ordinal);
        Assert.DoesNotContain("-9223372036854775808", described, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_reboot_is_told_by_the_kubelet_before_the_agent_starts()
    {
        await using LabCluster lab = await (await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1)).WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");
        await lab.Cluster.Nodes["node-1"].StopAgentAsync();
        lab.Host("node-1").Reboot();
        await lab.Cluster.Nodes["node-1"].Kubelet.TellFactsAsync();
        await lab.UntilAsync(
            "the claim not to be Ready",
            () => lab.GetAsync("disk"),
            c => c.Status!.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "NodeRebooted" }
        );
        await lab.Cluster.Nodes["node-1"].StartAgentAsync();
        await lab.ReadyAsync("disk");
        Assert.Equal(lab.Host("node-1").BootId, (await lab.Client.GetAsync<V1Node>("node-1"))!.Status!.NodeInfo!.BootID);
    }
}
