using System.Text.Json.Serialization;

namespace PciOperator.Core;

/// <summary>How a device is reset before it is handed out and after it comes back.</summary>
public enum ResetMode
{
    /// <summary>Reset where the device can be; given away also where it can't, and said so.</summary>
    [JsonStringEnumMemberName("bestEffort")]
    BestEffort,

    /// <summary>Given away only when a reset has worked; a device that can't be reset is not offered.</summary>
    [JsonStringEnumMemberName("required")]
    Required,

    /// <summary>Never reset by us.</summary>
    [JsonStringEnumMemberName("skip")]
    Skip,
}
