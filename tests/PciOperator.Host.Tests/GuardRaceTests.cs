using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>What comes into use while a device is being taken.</summary>
public class GuardRaceTests
{
    [Theory]
    [InlineData(Lab.Igb, "the address 172.17.0.5/24")]
    [InlineData(Lab.Nvme, "(fio) has /dev/nvme1 open")]
    [InlineData(Lab.X710, "ens4v1, which has the address")]
    public async Task What_comes_into_use_while_the_journal_is_written_is_seen_before_anything_is_touched(string address, string says)
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", address);
        string before = lab.Picture();
        lab.Simulated.Fault = a =>
        {
            if (a is not { Operation: SimulatedOperation.WriteDurably, Before: false })
                return;
            lab.Simulated.Fault = null;
            if (address == Lab.Nvme)
                lab.Simulated.StartProcess("fio", "/dev/nvme1");
            else
                lab.Simulated.Change(address == Lab.X710 ? Lab.X710Vf : address, f => f.Interfaces[0].Address = true);
        };
        Holding holding = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (holding.State, holding.Reason));
        Assert.Contains(says, holding.Message, StringComparison.Ordinal);
        GuardTests.NothingWasDone(lab);
        Assert.Equal(before, lab.Picture());
    }

    [Fact]
    public async Task A_disk_is_the_agents_from_the_last_look_until_it_is_bound()
    {
        var lab = new Lab();
        AssignmentRequest request = lab.Request("claim-1", Lab.Nvme);
        var seen = new List<(string Value, string Claimed)>();
        lab.Simulated.Fault = a =>
        {
            if (a is { IsChange: true, Before: true })
                seen.Add((a.Operation.ToString(), string.Join(",", lab.Simulated.ClaimedByAgent)));
        };
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(request)).State);
        Assert.Equal(
            ["LoadModule nvme1n1", "WriteDurably nvme1n1", "Write nvme1n1", "Write nvme1n1", "Write nvme1n1"],
            seen.Take(5).Select(s => $"{s.Value} {s.Claimed}")
        );
        Assert.Empty(lab.Simulated.ClaimedByAgent);
    }

    [Fact]
    public async Task A_disk_is_let_go_before_its_driver_gets_it_back()
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Nvme, f => f.FailingDrivers.Add("vfio-pci"));
        AssignmentRequest request = lab.Request("claim-1", Lab.Nvme);
        string? claimed = null;
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, Value: "nvme" })
                claimed = string.Join(",", lab.Simulated.ClaimedByAgent);
        };
        Assert.Equal(
            (HoldingState.Rejected, HoldingReasons.BindFailed),
            ((await lab.Agent.PrepareAsync(request)) is var h ? (h.State, h.Reason) : default)
        );
        Assert.Equal("", claimed);
        Assert.Equal("nvme", lab.Sim(Lab.Nvme).Driver);
    }

    [Theory]
    [InlineData("/dev/infiniband/uverbs0", false)]
    [InlineData("/dev/dri/card1", true)]
    [InlineData("/sys/devices/pci0000:20/0000:20:03.0/0000:24:00.0/resource1", true)]
    [InlineData("/dev/nvidia7", false)]
    public async Task A_device_that_a_process_uses_is_not_taken(string path, bool mapped)
    {
        var lab = new Lab();
        lab.Simulated.Change(Lab.Gpu, f => f.Nodes.Add(new SimulatedNode("infiniband/uverbs0", 231, 192)));
        lab.Simulated.PutFile($"/proc/driver/nvidia/gpus/{Lab.Gpu}/information", "Model: \t\t Tesla\nDevice Minor: \t 7\n");
        lab.Simulated.Change(Lab.BootDisplay, f => f.Nodes.Add(new SimulatedNode("nvidia7", 195, 7)));
        int pid = mapped ? lab.Simulated.StartProcess("render") : lab.Simulated.StartProcess("render", path);
        if (mapped)
            lab.Simulated.Map(pid, path);
        Holding holding = await lab.Prepare("claim-1", Lab.GpuFunctions);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (holding.State, holding.Reason));
        Assert.Contains($"process {pid} (render) has {path}", holding.Message, StringComparison.Ordinal);
        Assert.Contains(mapped ? " mapped" : " open", holding.Message, StringComparison.Ordinal);
        GuardTests.NothingWasDone(lab);
        lab.Simulated.StopProcess(pid);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", Lab.GpuFunctions)).State);
    }

    [Theory]
    [InlineData("/dev/vfio/100000")]
    [InlineData("/dev/vfio/devices/vfio100000")]
    public async Task A_group_or_device_that_somebody_has_open_through_VFIO_is_not_taken_also_with_an_override(string node)
    {
        var lab = new Lab();
        HostFunction gpu = lab.Seen("0000:24:00.1");
        lab.Simulated.Change("0000:24:00.1", f => f.Driver = "vfio-pci");
        HostFunction bound = lab.Seen("0000:24:00.1");
        string open = node.Contains("devices", StringComparison.Ordinal) ? bound.VfioDeviceNode! : bound.VfioGroupNode!;
        lab.Agent.GuardOverrides =
        [
            .. Lab.GpuFunctions.Select(a => new GuardOverride(Core.PciAddress.Parse(a), $"10de:{lab.Seen(a).Function.ProductId}", null)),
        ];
        lab.Simulated.StartProcess("qemu", open);
        AssignmentRequest request = lab.Request(
            "claim-1",
            d => d.Address == gpu.Address ? d with { Managed = false } : d,
            Lab.GpuFunctions
        );
        Holding holding = await lab.Agent.PrepareAsync(request);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (holding.State, holding.Reason));
        Assert.Contains($"(qemu) has {open} open", holding.Message, StringComparison.Ordinal);
        Assert.Empty(lab.Simulated.Log);
    }

    [Fact]
    public async Task An_interface_in_a_pod_counts_also_when_another_of_the_function_is_here()
    {
        var lab = new Lab();
        int pid = lab.Simulated.StartProcess("pause");
        lab.Simulated.MoveToNetNamespace(pid, "net:[4026532555]");
        lab.Simulated.PutLink($"/proc/{pid}/root/sys/class/net/ens1d1", "../../devices/pci0000:20/0000:20:00.0/0000:21:00.0/net/ens1d1");
        Assert.Null(lab.Seen(Lab.Igb).GuardReason);
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        Assert.Equal(
            $"0000:21:00.0 has the interface ens1d1 in the network namespace of process {pid} (pause): end what runs there.",
            holding.Message
        );
        GuardTests.NothingWasDone(lab);
    }

    [Theory]
    [InlineData("macvlan", true)]
    [InlineData("ipvlan", true)]
    [InlineData("veth", false)]
    public async Task A_macvlan_in_a_pod_holds_the_NIC_below_it_and_a_veth_holds_none(string type, bool holds)
    {
        var lab = new Lab();
        string below = lab.Simulated.Files.ReadText("/sys/class/net/ens1/ifindex")!;
        int pid = lab.Simulated.StartProcess("nginx");
        lab.Simulated.MoveToNetNamespace(pid, "net:[4026532555]");
        lab.Simulated.PutLink($"/proc/{pid}/root/sys/class/net/eth0", "../../devices/virtual/net/eth0");
        lab.Simulated.PutFile($"/proc/{pid}/root/sys/devices/virtual/net/eth0/iflink", below);
        lab.Simulated.PutFile($"/proc/{pid}/root/sys/devices/virtual/net/eth0/ifindex", "2");
        lab.Simulated.PutFile($"/proc/{pid}/root/sys/devices/virtual/net/eth0/uevent", $"DEVTYPE={type}\nINTERFACE=eth0\nIFINDEX=2");
        Holding holding = await lab.Prepare("claim-1", Lab.Igb);
        Assert.Equal(holds ? HoldingState.Rejected : HoldingState.Prepared, holding.State);
        if (holds)
        {
            Assert.Equal(
                $"0000:21:00.0 is the host's interface ens1, which carries the interface eth0 of process {pid} (nginx) in another network namespace: end what runs there.",
                holding.Message
            );
        }
    }
}
