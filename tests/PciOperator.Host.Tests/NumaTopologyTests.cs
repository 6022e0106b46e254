using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>The sockets of all NUMA nodes that have CPUs, whether or not a device is there.</summary>
public class NumaTopologyTests
{
    [Fact]
    public void Nodes_without_a_device_have_a_socket_those_without_CPUs_are_left_out_and_package_minus_one_is_unknown()
    {
        SimulatedHost host = LabHosts
            .Builder()
            .NumaNode(4, "64-67,96", 2)
            .NumaNode(5, "80", -1)
            .File("/sys/devices/system/node/node6/cpulist", "\n")
            .File("/sys/devices/system/node/online", "0-6\n")
            .Build();
        IReadOnlyDictionary<int, int?> nodes = new Lab(host).Agent.Scan().NumaNodes;
        Assert.Equal(2, nodes[4]);
        Assert.Null(nodes[5]);
        Assert.DoesNotContain(6, nodes.Keys);
    }
}
