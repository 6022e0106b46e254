using PciOperator.Api;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Import;

/// <summary>Whether the API server takes what is to be written: the resources' own rules, and their schemas' lengths.</summary>
internal static class FieldChecks
{
    private const int MostTags = 32;
    private const int MostLabels = 32;
    private const int LongestText = 255;
    private const int LongestPart = 64;

    /// <summary>Why a record would be refused, by the first of its rules; null: it wouldn't.</summary>
    public static string? Broken<T>(T record)
        where T : class, IHasCelRules<T> => T.Rules.FirstOrDefault(rule => !rule.Holds(record, null))?.Message;

    /// <summary>Why a spec would be refused.</summary>
    public static string? Broken(PciDeviceSpecSpec spec) =>
        Broken<PciDeviceSpecSpec>(spec)
        ?? (spec.NodeSelector?.Count > MostLabels ? $"a nodeSelector has {MostLabels} labels at most" : null)
        ?? spec.Devices.Select(Broken).FirstOrDefault(b => b is not null);

    /// <summary>Why an alias' description would be refused.</summary>
    public static string? Broken(AliasDevice device) =>
        Broken<AliasDevice>(device)
        ?? (device.ResourceClass is { } name && !IsText(name) ? "a resource class has 1 to 255 characters" : null);

    /// <summary>Why a claim would be refused.</summary>
    public static string? Broken(PassthroughClaimSpec claim) =>
        Broken<PassthroughClaimSpec>(claim) ?? claim.Requests.Select(Broken<ClaimRequest>).FirstOrDefault(b => b is not null);

    /// <summary>Why a selector would be refused.</summary>
    public static string? Broken(DeviceSelectorSpec selector) =>
        Broken<DeviceSelectorSpec>(selector)
        ?? (
            selector.AddressPattern is { } pattern
                ? Broken(pattern)
                    ?? (
                        IsLong(pattern.Domain) || IsLong(pattern.Bus) || IsLong(pattern.Slot) || IsLong(pattern.Function)
                            ? $"an expression has more than {LongestPart} characters"
                            : null
                    )
                : null
        );

    /// <summary>Why a tag can't be kept; null: it can.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="value">Its value.</param>
    /// <param name="others">How many there are already.</param>
    public static string? BrokenTag(string key, string value, int others) =>
        others >= MostTags ? $"there are more than {MostTags} tags"
        : value.Length > LongestText ? $"its value has more than {LongestText} characters"
        : Broken<PciDeviceSpecSpec>(new PciDeviceSpecSpec { Tags = new Dictionary<string, string> { [key] = value } });

    /// <summary>Whether a text fits where 1 to 255 characters do.</summary>
    public static bool IsText(string text) => text.Length is > 0 and <= LongestText;

    private static bool IsLong(string? text) => text?.Length > LongestPart;
}
