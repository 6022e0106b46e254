using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>The commands of docs/uninstall.md, as they stand there, strand no device.</summary>
public sealed class UninstallTests
{
    [ClusterFact]
    public async Task Taking_it_all_down_in_the_documented_order_gives_every_device_back()
    {
        await using Cluster cluster = await Cluster.StartAsync();
        await cluster.OfferAsync(
            "nic",
            new() { Address = Topology.Nic1 },
            new()
            {
                VendorId = "8086",
                ProductId = "10c9",
                DeviceType = DeviceType.Pf,
            }
        );
        await cluster.OfferAsync("dual", new() { VendorId = "8086", ProductId = "10d3" }, new() { VendorId = "8086", ProductId = "10d3" });
        await cluster.ClaimAsync("nic", "nic");
        await cluster.ClaimAsync("dual", "dual");
        await cluster.WaitUntilReadyAsync("nic");
        await cluster.WaitUntilReadyAsync("dual");

        // Steps are numbered; their commands are indented below them.
        string[] commands =
        [
            .. File.ReadLines(Path.Combine(Lab.Repository, "docs", "uninstall.md"))
                .SkipWhile(line => !line.StartsWith("1. ", StringComparison.Ordinal))
                .Where(line => line.StartsWith("       kubectl ", StringComparison.Ordinal)),
        ];
        Assert.Equal(6, commands.Length);
        foreach (string command in commands)
        {
            string output = cluster.Kubectl(command);
            if (command.Contains("get pcinodes", StringComparison.Ordinal))
                Assert.Equal("", output); // no node holds an assignment
        }

        Assert.Equal("igb", await cluster.Machine.DriverOfAsync(Topology.Nic1));
        Assert.Equal("e1000e", await cluster.Machine.DriverOfAsync(Topology.DualNic0));
        Assert.Equal("e1000e", await cluster.Machine.DriverOfAsync(Topology.DualNic1));
        Assert.Equal("vfio", await cluster.Machine.OutputOfAsync("ls /dev/vfio"));
        Assert.Equal("", cluster.Kubectl("kubectl get crds,clusterroles,clusterrolebindings -o name | grep -i pcioperator || true"));
    }
}
