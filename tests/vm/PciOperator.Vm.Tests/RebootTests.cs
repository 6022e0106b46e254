namespace PciOperator.Vm.Tests;

/// <summary>Power loss: what was on the state disk is there at the second boot, and the kernel has forgotten the rest.</summary>
public sealed class RebootTests
{
    [VmFact]
    public async Task The_state_disk_outlives_a_power_cut_and_driver_overrides_do_not()
    {
        await using VirtualMachine machine = await VirtualMachine.StartAsync(new() { Name = "reboot", StateDisk = true });
        string firstBoot = await machine.OutputOfAsync("cat /proc/sys/kernel/random/boot_id");
        await machine.OutputOfAsync($"echo vfio-pci > /sys/bus/pci/devices/{Topology.Nic0}/driver_override");
        await machine.OutputOfAsync("echo intent > /var/lib/pcioperator/journal && sync");

        await machine.RestartAsync();

        Assert.NotEqual(firstBoot, await machine.OutputOfAsync("cat /proc/sys/kernel/random/boot_id"));
        Assert.Equal("intent", await machine.OutputOfAsync("cat /var/lib/pcioperator/journal"));
        Assert.Equal("(null)", await machine.SysfsAsync(Topology.Nic0, "driver_override"));
    }
}
