using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Serialization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>How far a claim's devices were when the entry was written.</summary>
internal enum JournalStage
{
    Preparing,
    Prepared,
    Releasing,

    /// <summary>Releasing, and the devices have been reset (or are known not to be clean): what is left is putting them back.</summary>
    Restoring,
}

/// <summary>
/// What must be known to finish or undo a claim's work after any interruption. Written whole before the first change of a
/// boot, at the end of binding, and before giving back.
/// </summary>
internal sealed record JournalEntry
{
    public const int CurrentFormat = 2;
    private const int LongestNamespace = 63;
    private const int LongestName = 253;

    public required int FormatVersion { get; init; }

    /// <summary>The boot in which the devices were touched: after another one the kernel has forgotten all of it.</summary>
    public required string BootId { get; init; }

    public required JournalStage Stage { get; init; }

    public required string ClaimUid { get; init; }

    public required string ClaimNamespace { get; init; }

    public required string ClaimName { get; init; }

    public required DateTimeOffset Since { get; init; }

    /// <summary>
    /// The boot in which the devices were last handed out: until their owner has been told to leave, a guest of that boot may
    /// be using them, and they are not reset. Null: nobody had them since they were last bound. (Format 2.)
    /// </summary>
    public string? HandedOutIn { get; init; }

    /// <summary>They were handed out at least once, in whatever boot. (Format 2.)</summary>
    public bool Used { get; init; }

    public required IReadOnlyList<JournalDevice> Devices { get; init; }

    /// <summary>Whether namespace and name can be an object's.</summary>
    [JsonIgnore]
    public bool IsNamed =>
        ClaimNamespace.Length <= LongestNamespace
        && ClaimName.Length <= LongestName
        && !ClaimNamespace.AsSpan().ContainsAnyExceptInRange('!', '~')
        && !ClaimName.AsSpan().ContainsAnyExceptInRange('!', '~');

    [JsonIgnore]
    public AssignmentRequest Request =>
        new()
        {
            ClaimUid = ClaimUid,
            ClaimNamespace = ClaimNamespace,
            ClaimName = ClaimName,
            Devices = Devices,
        };

    /// <summary>An entry of format 1 as one of format 2: who had the devices is read from its stage.</summary>
    public JournalEntry Upgraded() =>
        FormatVersion >= CurrentFormat
            ? this
            : this with
            {
                FormatVersion = CurrentFormat,
                HandedOutIn = Stage == JournalStage.Preparing ? null : BootId,
                Used = Stage != JournalStage.Preparing,
            };

    /// <summary>Whether it is for these devices, whatever else changed (how they are reset, whether they are used once).</summary>
    public bool IsFor(AssignmentRequest request) => Devices.Select(What).ToHashSet().SetEquals(request.Devices.Select(What));

    private static (PciAddress, PciId, PciId, BindDriver, bool) What(DeviceToTake d) =>
        (d.Address, d.VendorId, d.ProductId, d.Driver, d.Managed);
}

/// <summary>
/// One device of an entry: as it was taken, with what was found of it then (stable id, IOMMU group), and what it goes back to.
/// </summary>
internal sealed record JournalDevice : DeviceToTake
{
    /// <summary>For the journal's reader.</summary>
    public JournalDevice() { }

    /// <summary>A device that was asked for, all of it, and the driver that it is bound to for its claim.</summary>
    [SetsRequiredMembers]
    public JournalDevice(DeviceToTake asked, string targetDriver)
        : base(asked) => TargetDriver = targetDriver;

    /// <summary>A VF's PF.</summary>
    public PciAddress? ParentAddress { get; init; }

    /// <summary>The driver that it is bound to for the claim.</summary>
    public required string TargetDriver { get; init; }

    public string? OriginalDriver { get; init; }

    public string? OriginalOverride { get; init; }

    /// <summary>VFs that a PF had before it was taken; null when none, or not a PF.</summary>
    public int? OriginalNumVfs { get; init; }

    /// <summary>sriov_drivers_autoprobe of a PF that had VFs; null: not a PF, had none, or written before format 2.</summary>
    public bool? OriginalAutoprobe { get; init; }

    /// <summary>The VFs that a PF had, as they were, since they go when it is taken; null: not a PF, or had none. (Format 2.)</summary>
    public IReadOnlyList<JournalVf>? OriginalVfs { get; init; }

    /// <summary>What a VF's PF kept for it before the claim; null: not a VF, or its PF's driver says nothing. (Format 2.)</summary>
    public VfSettings? OriginalVf { get; init; }

    /// <summary>
    /// reset_method as it was found, since trying methods one by one changes it; null: the kernel shows none. (Format 2.)
    /// </summary>
    public string? OriginalResetMethods { get; init; }

    /// <summary>It was handed out without a reset: why none worked, as a sentence. (Format 2.)</summary>
    public string? NotReset { get; init; }
}

/// <summary>A free VF of a PF that was taken, and how it is made again.</summary>
/// <param name="Index">Its number on its PF.</param>
/// <param name="Driver">Null when it had none.</param>
/// <param name="DriverOverride">Null when it had none.</param>
/// <param name="Settings">Null when the PF's driver says nothing of it.</param>
internal sealed record JournalVf(int Index, string? Driver, string? DriverOverride, VfSettings? Settings);

/// <summary>The first look at a file: only its version.</summary>
internal sealed record JournalVersion
{
    public int FormatVersion { get; init; }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    UseStringEnumConverter = true,
    Converters = [typeof(JournalDriverWords), typeof(JournalResetWords), typeof(JournalText<PciAddress>), typeof(JournalText<PciId>)],
    WriteIndented = true,
    RespectNullableAnnotations = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull
)]
[JsonSerializable(typeof(JournalEntry))]
[JsonSerializable(typeof(JournalVersion))]
internal sealed partial class JournalJson : JsonSerializerContext;
