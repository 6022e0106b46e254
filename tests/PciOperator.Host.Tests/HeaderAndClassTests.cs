using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>What a function says it is: its header, its class, where it sits.</summary>
public class HeaderAndClassTests
{
    private const string Switch = "0000:32:00.0";

    [Theory]
    [InlineData("10de:22a3", 0x068000u, "nvidia-nvswitch")]
    [InlineData("8086:6f0d", 0x068000u, "ntb_hw_intel")]
    [InlineData("1556:beef", 0x060a00u, null)]
    public async Task A_bridge_by_class_with_an_endpoints_header_is_a_device(string ids, uint code, string? driver)
    {
        Lab lab = LabWith(
            new SimulatedFunction
            {
                Address = Switch,
                Ids = ids,
                Class = code,
                Bridge = "0000:20:03.0",
                HostDriver = driver,
            }
        );
        HostFunction seen = lab.Seen(Switch);
        Assert.False(seen.Function.IsBridge);
        Assert.Null(seen.GuardReason);
        Holding holding = await lab.Prepare("claim-1", Switch);
        Assert.Equal((HoldingState.Prepared, null), (holding.State, holding.Message));
        Assert.Equal("vfio-pci", lab.Sim(Switch).Driver);
        Assert.Null(await lab.Agent.ReleaseAsync("claim-1"));
        Assert.Equal(driver, lab.Sim(Switch).Driver);
    }

    [Theory]
    [InlineData(0x060000u)]
    [InlineData(0x060100u)]
    [InlineData(0x060400u)]
    public void A_host_bridge_an_ISA_bridge_and_a_port_are_none(uint code) =>
        Assert.True(
            LabWith(
                    new SimulatedFunction
                    {
                        Address = Switch,
                        Ids = "8086:0001",
                        Class = code,
                        Bridge = "0000:20:03.0",
                    }
                )
                .Seen(Switch)
                .Function.IsBridge
        );

    [Theory]
    [InlineData(1)]
    [InlineData(0x81)]
    [InlineData(2)]
    public void Another_header_is_a_bridges(byte header)
    {
        Lab lab = LabWith(
            new SimulatedFunction
            {
                Address = Switch,
                Ids = "8086:0001",
                Class = 0x068000,
                Bridge = "0000:20:03.0",
            }
        );
        lab.Simulated.PutFile($"/sys/devices/pci0000:20/0000:20:03.0/{Switch}/config", new string('\0', 14) + (char)(header & 0x7f));
        Assert.True(new Lab(lab.Simulated).Seen(Switch).Function.IsBridge);
    }

    [Fact]
    public async Task A_group_with_such_a_switch_is_taken_whole()
    {
        var lab = new Lab();
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = Switch,
                Ids = "10de:22a3",
                Class = 0x068000,
                Bridge = "0000:20:03.0",
                Group = lab.Seen(Lab.Gpu).Function.IommuGroup,
                HostDriver = "nvidia-nvswitch",
            }
        );
        Holding alone = await lab.Prepare("claim-1", Lab.GpuFunctions);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.DriftDetected), (alone.State, alone.Reason));
        Assert.Contains($"also holds {Switch} (10de:22a3)", alone.Message, StringComparison.Ordinal);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-2", [.. Lab.GpuFunctions, Switch])).State);
    }

    [Fact]
    public void A_group_that_a_bridges_driver_spoils_is_said_at_the_scan()
    {
        var lab = new Lab();
        lab.Simulated.Add(
            new SimulatedFunction
            {
                Address = "0000:24:1f.0",
                Ids = "1b36:000e",
                Class = 0x060400,
                Bridge = "0000:20:03.0",
                Group = lab.Seen(Lab.Gpu).Function.IommuGroup,
                HostDriver = "shpchp",
            }
        );
        foreach (string function in Lab.GpuFunctions)
        {
            HostFunction seen = lab.Seen(function);
            Assert.Equal(HoldingReasons.GroupNotViable, seen.GuardName);
            Assert.StartsWith("The bridge 0000:24:1f.0 of IOMMU group", seen.GuardReason, StringComparison.Ordinal);
        }

        lab.Simulated.Change("0000:24:1f.0", f => f.Driver = null);
        Assert.Null(lab.Seen(Lab.Gpu).GuardReason);
    }

    [Theory]
    [InlineData("8086:2fa8", 0x088000u, null, null, true)]
    [InlineData("8086:2f36", 0x110100u, null, null, true)]
    [InlineData("8086:7113", 0x068000u, null, null, true)]
    [InlineData("8086:0b25", 0x088000u, null, null, false)]
    [InlineData("8086:2fa8", 0x088000u, "some_driver", null, false)]
    [InlineData("8086:2fa8", 0x088000u, null, "0000:20:03.0", false)]
    public void Insides_of_processors_are_the_hosts(string ids, uint code, string? driver, string? bridge, bool system)
    {
        const string address = "0000:7f:13.0";
        Lab lab = LabWith(
            new SimulatedFunction
            {
                Address = address,
                Ids = ids,
                Class = code,
                Bridge = bridge,
                HostDriver = driver,
            }
        );
        Assert.Equal(system ? "SystemDevice" : null, lab.Seen(address).GuardName);
    }

    [Theory]
    [InlineData(null, "0000:20:03.0", false, true)]
    [InlineData(null, "0000:20:03.0", true, false)]
    [InlineData(null, null, true, true)]
    [InlineData("xclmgmt", "0000:20:03.0", false, false)]
    [InlineData("xclmgmt", null, false, false)]
    public void What_calls_itself_memory_is_the_hosts_unless_it_has_a_driver_or_memory_behind_a_port(
        string? driver,
        string? bridge,
        bool bar,
        bool system
    )
    {
        Lab lab = LabWith(
            new SimulatedFunction
            {
                Address = Switch,
                Ids = "10ee:903f",
                Class = 0x050000,
                Bridge = bridge,
                HostDriver = driver,
            }
        );
        lab.Simulated.PutFile(
            $"/sys/devices/pci0000:{bridge?[5..7] ?? "32"}/{(bridge is null ? "" : bridge + "/")}{Switch}/resource",
            $"{(bar ? "0x0000000090000000 0x0000000091ffffff 0x000000000014220c" : "0x0000000000000000 0x0000000000000000 0x0000000000000000")}\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        );
        Assert.Equal(system ? "SystemDevice" : null, lab.Seen(Switch).GuardName);
    }

    [Fact]
    public async Task InfiniBand_without_interfaces_is_no_hidden_interface()
    {
        Lab lab = LabWith(
            new SimulatedFunction
            {
                Address = Switch,
                Ids = "15b3:1017",
                Class = 0x020700,
                Bridge = "0000:20:03.0",
                HostDriver = "mlx5_core",
            }
        );
        Assert.Null(lab.Seen(Switch).GuardReason);
        int pod = lab.Simulated.StartProcess("pod");
        lab.Simulated.MoveToNetNamespace(pod, "net:[4026532555]");
        lab.Simulated.PutLink($"/proc/{pod}/root/sys/class/net/ib0", $"../../devices/pci0000:20/0000:20:03.0/{Switch}/net/ib0");
        Assert.Contains(
            "has the interface ib0 in the network namespace of process",
            (await lab.Prepare("claim-1", Switch)).Message,
            StringComparison.Ordinal
        );
    }

    [Theory]
    [InlineData("nvgrace_gpu_vfio_pci", BindDriver.VfioPci, true)]
    [InlineData("mlx5_vfio_pci", BindDriver.Auto, true)]
    [InlineData("xe-vfio-pci", BindDriver.VfioPci, true)]
    [InlineData("vfio-pci", BindDriver.Auto, true)]
    [InlineData("pci-stub", BindDriver.PciStub, true)]
    [InlineData("pci-stub", BindDriver.VfioPci, false)]
    [InlineData("vfio-pci", BindDriver.PciStub, false)]
    [InlineData("igb", BindDriver.VfioPci, false)]
    [InlineData(null, BindDriver.Auto, false)]
    public async Task An_administrators_device_is_where_its_spec_wants_it(string? driver, BindDriver wanted, bool fits)
    {
        Assert.Equal(fits, VfioDrivers.IsBoundAs(wanted, driver));
        var lab = new Lab();
        AssignmentRequest request = lab.Request(
            "claim-1",
            d => d with { Managed = false, Driver = wanted, Reset = ResetMode.Skip },
            Lab.Igb
        );
        lab.Simulated.Change(Lab.Igb, f => f.Driver = driver);
        Holding holding = await lab.Agent.PrepareAsync(request);
        Assert.Equal(fits, holding.State == HoldingState.Prepared);
        Assert.Equal(fits ? null : HoldingReasons.NotBound, holding.State == HoldingState.Prepared ? null : holding.Reason);
    }

    private static Lab LabWith(SimulatedFunction function)
    {
        var lab = new Lab();
        lab.Simulated.Add(function);
        return lab;
    }
}
