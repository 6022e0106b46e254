namespace PciOperator.Core;

/// <summary>The text of one selector, as a PciDeviceSpec or Nova's <c>device_spec</c> writes it. An absent field (null) matches everything.</summary>
public sealed record DeviceSelectorFields
{
    /// <summary>A hexadecimal id, or <c>*</c>.</summary>
    public string? VendorId { get; init; }

    /// <summary>A hexadecimal id, or <c>*</c>.</summary>
    public string? ProductId { get; init; }

    /// <summary>A hexadecimal id, or <c>*</c>.</summary>
    public string? SubsystemVendorId { get; init; }

    /// <summary>A hexadecimal id, or <c>*</c>.</summary>
    public string? SubsystemProductId { get; init; }

    /// <summary>2, 4 or 6 hexadecimal digits: base class, with subclass, with programming interface (<c>0300</c>: VGA).</summary>
    public string? ClassCode { get; init; }

    /// <summary>Nova's glob <c>[[[domain]:]bus]:]slot[.function]</c>; see <see cref="AddressGlob"/>. Not together with the other two of where.</summary>
    public string? Address { get; init; }

    /// <summary>Nova's object of regular expressions; see <see cref="Core.AddressPattern"/>.</summary>
    public AddressPatternFields? AddressPattern { get; init; }

    /// <summary>The name of a network interface.</summary>
    public string? DeviceName { get; init; }
}

/// <summary>The text of an address pattern: one regular expression a field; absent is <c>.*</c>.</summary>
/// <param name="Domain">Against four or more lower-case digits.</param>
/// <param name="Bus">Against two lower-case digits.</param>
/// <param name="Slot">Against two lower-case digits.</param>
/// <param name="Function">Against one digit.</param>
public sealed record AddressPatternFields(string? Domain = null, string? Bus = null, string? Slot = null, string? Function = null);

/// <summary>Which functions of a host a device spec means: ids, class and place, all of those that are given.</summary>
public sealed class DeviceSelector
{
    private readonly PciId? vendorId;
    private readonly PciId? productId;
    private readonly PciId? subsystemVendorId;
    private readonly PciId? subsystemProductId;
    private readonly uint classCode;
    private readonly uint classMask;
    private readonly AddressGlob? glob;
    private readonly AddressPattern? pattern;
    private readonly string? deviceName;

    private DeviceSelector(DeviceSelectorFields fields, bool asNova)
    {
        IdsOfNone = asNova && (IsNegative(fields.VendorId) || IsNegative(fields.ProductId));
        vendorId = asNova && IsNegative(fields.VendorId) ? null : Id("vendorId", fields.VendorId);
        productId = asNova && IsNegative(fields.ProductId) ? null : Id("productId", fields.ProductId);
        subsystemVendorId = Id("subsystemVendorId", fields.SubsystemVendorId);
        subsystemProductId = Id("subsystemProductId", fields.SubsystemProductId);
        (classCode, classMask) = Class(fields.ClassCode);
        bool address = !string.IsNullOrEmpty(fields.Address);
        bool name = !string.IsNullOrEmpty(fields.DeviceName);
        if (name && (address || fields.AddressPattern is not null))
            throw new SpecFormatException("deviceName", "deviceName and address both say where the device is; give one of them.");
        if (address && fields.AddressPattern is not null)
            throw new SpecFormatException("addressPattern", "address and addressPattern both say where the device is; give one of them.");
        glob = address ? AddressGlob.Parse(fields.Address!, asNova) : null;
        pattern = fields.AddressPattern is { } p ? AddressPattern.Parse(p) : null;
        deviceName = name ? fields.DeviceName : null;
        FullAddress = glob is { } g ? g.FullAddress : pattern?.FullAddress;
        VendorId = vendorId;
        ProductId = productId;
    }

    /// <summary>
    /// The one address that the selector names, when it names all of one. When that is a PF's, the selector matches
    /// the PF and its VFs (Nova's rule; with a product id it picks one of the two kinds).
    /// </summary>
    public PciAddress? FullAddress { get; }

    /// <summary>The vendor that it wants; null is any.</summary>
    public PciId? VendorId { get; }

    /// <summary>The product that it wants; null is any.</summary>
    public PciId? ProductId { get; }

    /// <summary>The network interface that it names, if it does.</summary>
    public string? DeviceName => deviceName;

    /// <summary>Whether an id is a negative number, so that no device has it.</summary>
    public bool IdsOfNone { get; }

    /// <summary>Parses a selector.</summary>
    /// <exception cref="SpecFormatException">A field can't be meant; the error names it and says what would be right.</exception>
    public static DeviceSelector Parse(DeviceSelectorFields fields)
    {
        ArgumentNullException.ThrowIfNull(fields);
        return new DeviceSelector(fields, false);
    }

    /// <summary>The same for Nova's <c>device_spec</c>, where a negative id or address field is a number that no device has.</summary>
    /// <exception cref="SpecFormatException">As for <see cref="Parse"/>.</exception>
    internal static DeviceSelector ParseAsNova(DeviceSelectorFields fields) => new(fields, true);

    /// <summary>Whether the selector means this function.</summary>
    /// <param name="f">The function.</param>
    /// <param name="host">The host's function at an address, or null: the PF's facts decide for its VFs.</param>
    public bool Matches(PciFunction f, Func<PciAddress, PciFunction?> host)
    {
        ArgumentNullException.ThrowIfNull(f);
        ArgumentNullException.ThrowIfNull(host);
        return !IdsOfNone
            && (vendorId is null || vendorId == f.VendorId)
            && (productId is null || productId == f.ProductId)
            && (subsystemVendorId is null || subsystemVendorId == f.SubsystemVendorId)
            && (subsystemProductId is null || subsystemProductId == f.SubsystemProductId)
            && (f.ClassCode & classMask) == classCode
            && MatchesPlace(f, host);
    }

    private bool MatchesPlace(PciFunction f, Func<PciAddress, PciFunction?> host)
    {
        if (deviceName is not null)
        {
            return f.NetDevice == deviceName
                || (f.IsVirtual && f.ParentAddress is { } pf && host(pf)?.NetDevice == deviceName);
        }
        if (glob is null && pattern is null)
            return true;
        if (glob?.Matches(f.Address) ?? pattern!.Matches(f.Address))
            return true;
        // A VF's parent is SR-IOV capable by what it is, listed or not.
        return FullAddress is { } full && f.IsVirtual && f.ParentAddress == full;
    }

    private static bool IsNegative(string? text) => Hex.TryParseAsNova(text, out long value) && value < 0;

    private static PciId? Id(string field, string? text)
    {
        if (text is null)
            return null;
        if (text is "*")
            return null;
        if (!Hex.TryParseAsNova(text, out long value) || value < 0)
            throw new SpecFormatException(field, $"{field} '{Text.Shorten(text)}' is not a hexadecimal number; expected up to four digits, for example 8086, or *.");
        if (value > 0xffff)
            throw new SpecFormatException(field, $"{field} '{Text.Shorten(text)}' is larger than ffff, the largest PCI id.");
        return new PciId((ushort)value);
    }

    private static (uint Code, uint Mask) Class(string? text)
    {
        if (string.IsNullOrEmpty(text) || text == "*")
            return (0, 0);
        if (text.Length is not (2 or 4 or 6) || !Hex.TryParse(text, out uint value))
            throw new SpecFormatException("classCode", $"classCode '{Text.Shorten(text)}' is not a PCI class; expected 2, 4 or 6 hexadecimal digits, for example 0300 for VGA controllers.");
        int shift = (6 - text.Length) * 4;
        return (value << shift, (0xffffffu >> shift) << shift);
    }
}
