using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>A simulated lab host with an agent's PassthroughHost on it.</summary>
internal sealed class Lab
{
    public const string Igb = "0000:21:00.0";
    public const string X520 = "0000:22:00.0";
    public const string Nvme = "0000:23:00.0";
    public const string X710 = "0000:82:00.0";
    public const string X710Vf = "0000:82:02.1";
    public const string Gpu = "0000:24:00.0";
    public const string ManagementNic = "0000:01:00.0";
    public const string BootDisk = "0000:02:00.0";
    public const string BootDisplay = "0000:03:00.0";

    private readonly PassthroughHostOptions? _options;

    public Lab(SimulatedHost? simulated = null, TimeProvider? time = null, PassthroughHostOptions? options = null)
    {
        _options = options;
        Simulated = simulated ?? LabHosts.Create();
        Time = time ?? TimeProvider.System;
        Agent = NewAgent();
    }

    public SimulatedHost Simulated { get; }

    public TimeProvider Time { get; }

    public PassthroughHost Agent { get; private set; }

    public static readonly string[] GpuFunctions = [Gpu, "0000:24:00.1", "0000:24:00.2", "0000:24:00.3"];

    public void RestartAgent()
    {
        Simulated.CrashAgent();
        Agent = NewAgent();
    }

    public void Reboot()
    {
        Simulated.Reboot();
        Agent = NewAgent();
    }

    public AssignmentRequest Request(string claim, params string[] addresses) => Request(claim, d => d, addresses);

    /// <summary>A claim for devices as the host shows them now.</summary>
    public AssignmentRequest Request(string claim, Func<DeviceToTake, DeviceToTake> change, params string[] addresses)
    {
        IReadOnlyList<HostFunction> functions = Agent.Scan().Functions;
        return new AssignmentRequest
        {
            ClaimUid = claim,
            ClaimNamespace = "lab",
            ClaimName = claim,
            Devices =
            [
                .. addresses
                    .Select(PciAddress.Parse)
                    .Select(a => functions.Single(f => f.Address == a).Function)
                    .Select(f =>
                        change(
                            new DeviceToTake
                            {
                                Address = f.Address,
                                VendorId = f.VendorId,
                                ProductId = f.ProductId,
                                StableId = f.StableId,
                                IommuGroup = f.IommuGroup,
                            }
                        )
                    ),
            ],
        };
    }

    public Task<Holding> Prepare(string claim, params string[] addresses) => Agent.PrepareAsync(Request(claim, addresses));

    public SimulatedFunction Sim(string address) => Simulated.Find(address) ?? throw new InvalidOperationException($"no {address}");

    public HostFunction Seen(string address) => Agent.Scan().Functions.Single(f => f.Address == PciAddress.Parse(address));

    /// <summary>Drivers, overrides, numbers and settings of VFs of the whole host, and the journal: to compare before and after.</summary>
    public string Picture() =>
        string.Join(
            '\n',
            Simulated
                .Functions.OrderBy(f => f.Address, StringComparer.Ordinal)
                .Select(f => $"{f.Address} {f.Driver} {f.Override} {f.Sriov?.Autoprobe} {f.VfSettings} {f.Sriov?.NumVfs}")
                .Concat(Simulated.Files.List($"{SimulatedHost.StateDirectory}/journal"))
        );

    private PassthroughHost NewAgent() => new(Simulated.Files, SimulatedHost.StateDirectory, Time, options: _options);
}
