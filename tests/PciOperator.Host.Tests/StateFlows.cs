using System.Text.Json.Nodes;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>
/// Claims' lives, always the same, whose every file in the state folder is kept under <c>StateFiles/</c> as the agent of each format wrote
/// it.
/// </summary>
internal static class StateFlows
{
    public const string JournalFolder = $"{SimulatedHost.StateDirectory}/journal";
    public const string DevicesFolder = $"{SimulatedHost.StateDirectory}/devices";
    private const string Hot = "vfio hot reset";
    private const string OtherIgb = "0000:81:00.0";
    private static readonly VfSettings Administrators = new("52:54:00:00:00:01", 100, 3, "802.1ad", true, false, 0, 500, 1);

    /// <summary>The flows by their claim's UID.</summary>
    public static IReadOnlyDictionary<string, Func<Lab, string, Task>> All { get; } =
        new Dictionary<string, Func<Lab, string, Task>>
        {
            ["pf-with-vfs"] = async (lab, claim) =>
            {
                lab.Simulated.Files.WriteVfSettings("ens4", 1, Administrators);
                lab.Simulated.Files.Write($"/sys/bus/pci/devices/{Lab.X710Vf}/driver_override", "iavf");
                await lab.Prepare(claim, Lab.X710);
                await lab.Agent.ReleaseAsync(claim);
            },
            ["vf-and-disk"] = async (lab, claim) =>
            {
                lab.Simulated.Files.WriteVfSettings("ens4", 1, Administrators);
                await lab.Agent.PrepareAsync(lab.Request(claim, d => d with { Reset = ResetMode.Required }, Lab.X710Vf, Lab.Nvme));
                lab.Simulated.Files.WriteVfSettings("ens4", 1, VfSettings.Default);
                await lab.Agent.ReleaseAsync(claim);
            },
            ["group-used-once"] = async (lab, claim) =>
            {
                await lab.Agent.PrepareAsync(
                    lab.Request(claim, d => d with { OneTimeUse = true, Driver = BindDriver.Auto }, Lab.GpuFunctions)
                );
                await lab.Agent.ReleaseAsync(claim);
            },
            ["stub"] = async (lab, claim) =>
            {
                await lab.Agent.PrepareAsync(
                    lab.Request(claim, d => d with { Driver = BindDriver.PciStub, Reset = ResetMode.Skip }, Lab.Igb)
                );
                await lab.Agent.ReleaseAsync(claim);
            },
            ["not-managed"] = async (lab, claim) =>
            {
                lab.Simulated.Files.LoadModule("vfio-pci");
                lab.Simulated.Files.Write($"/sys/bus/pci/devices/{OtherIgb}/driver_override", "vfio-pci");
                lab.Simulated.Files.Write("/sys/bus/pci/drivers/igb/unbind", OtherIgb);
                lab.Simulated.Files.Write("/sys/bus/pci/drivers_probe", OtherIgb);
                await lab.Agent.PrepareAsync(lab.Request(claim, d => d with { Managed = false }, OtherIgb));
                await lab.Agent.ReleaseAsync(claim);
            },
            ["not-reset"] = async (lab, claim) =>
            {
                FailResets(lab, Lab.Nvme);
                await lab.Prepare(claim, Lab.Nvme);
                await lab.Agent.ReleaseAsync(claim);
            },
            ["not-bound"] = async (lab, claim) =>
            {
                lab.Simulated.Change(Lab.Nvme, f => f.FailingDrivers.Add("vfio-pci"));
                await lab.Prepare(claim, Lab.Nvme);
            },
            ["not-clean"] = async (lab, claim) =>
            {
                await lab.Prepare(claim, Lab.Nvme);
                FailResets(lab, Lab.Nvme);
                await lab.Agent.ReleaseAsync(claim);
            },
            ["over-a-reboot"] = async (lab, claim) =>
            {
                // As after the reboot, whenever this flow is cut off.
                lab.Simulated.Files.Write($"/sys/bus/pci/devices/{Lab.X710}/sriov_numvfs", "0");
                AssignmentRequest request = lab.Request(claim, Lab.Igb);
                await lab.Agent.PrepareAsync(request);
                lab.Reboot();
                await lab.Agent.PrepareAsync(request);
                await lab.Agent.ReleaseAsync(claim);
            },
        };

    /// <summary>A lab in which a flow goes the same way each time.</summary>
    public static Lab NewLab() =>
        new(LabHosts.Create(), new Noon(), new PassthroughHostOptions { ResetPatience = TimeSpan.FromMilliseconds(1) });

    /// <summary>
    /// Every file that a flow's agent writes into the state folder: "journal/CLAIM.3-prepared.json", "devices/CLAIM.1.json".
    /// </summary>
    /// <param name="flow">The claim's UID.</param>
    /// <param name="killAt">A file after which the agent is killed; null: none.</param>
    /// <returns>The files, and the lab as it is left.</returns>
    public static async Task<(IReadOnlyDictionary<string, string> Files, Lab Lab)> Run(string flow, string? killAt = null)
    {
        Lab lab = NewLab();
        var files = new Dictionary<string, string>();
        int entries = 0,
            records = 0;
        lab.Simulated.Fault = a =>
        {
            if (a is not { Operation: SimulatedOperation.WriteDurably, Before: false })
                return;
            string? name =
                a.Path.StartsWith(JournalFolder, StringComparison.Ordinal)
                    ? $"journal/{flow}.{++entries}-{JsonNode.Parse(a.Value)!["stage"]!.ToString().ToLowerInvariant()}.json"
                : a.Path.StartsWith(DevicesFolder, StringComparison.Ordinal) ? $"devices/{flow}.{++records}.json"
                : null;
            if (name is null)
                return;
            files[name] = a.Value;
            if (name == killAt)
                lab.Simulated.CrashAgent();
        };
        try
        {
            await All[flow](lab, flow);
        }
        catch (SimulatedCrashException)
        {
            Assert.NotNull(killAt);
        }

        lab.Simulated.Fault = null;
        return (files, lab);
    }

    private static void FailResets(Lab lab, string address) =>
        lab.Simulated.Change(
            address,
            f =>
                f.FailingResets = new()
                {
                    ["flr"] = Errnos.EIO,
                    ["bus"] = Errnos.ETIMEDOUT,
                    [Hot] = Errnos.EIO,
                }
        );

    private sealed class Noon : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => new(2026, 11, 29, 12, 0, 0, TimeSpan.Zero);
    }
}
