namespace PciOperator.Core;

/// <summary>
/// The text of one selector, as a PciDeviceSpec or Nova's <c>device_spec</c> writes it. An absent field (null) matches everything.
/// </summary>
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

    /// <summary>
    /// Nova's glob <c>[[[domain]:]bus]:]slot[.function]</c>; see <see cref="AddressGlob"/>. Not together with the other two of where.
    /// </summary>
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
    private readonly PciId? _vendorId;
    private readonly PciId? _productId;
    private readonly PciId? _subsystemVendorId;
    private readonly PciId? _subsystemProductId;
    private readonly uint _classCode;
    private readonly uint _classMask;
    private readonly AddressGlob? _glob;
    private readonly AddressPattern? _pattern;
    private readonly string? _deviceName;

    private DeviceSelector(DeviceSelectorFields fields, bool asNova)
    {
        IdsOfNone = asNova && (IsNegative(fields.VendorId) || IsNegative(fields.ProductId));
        _vendorId = asNova && IsNegative(fields.VendorId) ? null : Id("vendorId", fields.VendorId);
        _productId = asNova && IsNegative(fields.ProductId) ? null : Id("productId", fields.ProductId);
        _subsystemVendorId = Id("subsystemVendorId", fields.SubsystemVendorId);
        _subsystemProductId = Id("subsystemProductId", fields.SubsystemProductId);
        (_classCode, _classMask) = Class(fields.ClassCode);
        bool address = !string.IsNullOrEmpty(fields.Address);
        bool name = !string.IsNullOrEmpty(fields.DeviceName);
        if (name && (address || fields.AddressPattern is not null))
            throw new SpecFormatException("deviceName", "deviceName and address both say where the device is; give one of them.");
        if (address && fields.AddressPattern is not null)
            throw new SpecFormatException("addressPattern", "address and addressPattern both say where the device is; give one of them.");
        _glob = address ? AddressGlob.Parse(fields.Address!, asNova) : null;
        _pattern = fields.AddressPattern is { } p ? AddressPattern.Parse(p) : null;
        _deviceName = name ? fields.DeviceName : null;
        FullAddress = _glob is { } g ? g.FullAddress : _pattern?.FullAddress;
        VendorId = _vendorId;
        ProductId = _productId;
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
    public string? DeviceName => _deviceName;

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
            && (_vendorId is null || _vendorId == f.VendorId)
            && (_productId is null || _productId == f.ProductId)
            && (_subsystemVendorId is null || _subsystemVendorId == f.SubsystemVendorId)
            && (_subsystemProductId is null || _subsystemProductId == f.SubsystemProductId)
            && (f.ClassCode & _classMask) == _classCode
            && MatchesPlace(f, host);
    }

    private bool MatchesPlace(PciFunction f, Func<PciAddress, PciFunction?> host)
    {
        if (_deviceName is not null)
        {
            return f.NetDevice == _deviceName || (f.IsVirtual && f.ParentAddress is { } pf && host(pf)?.NetDevice == _deviceName);
        }

        if (_glob is null && _pattern is null)
            return true;
        if (_glob?.Matches(f.Address) ?? _pattern!.Matches(f.Address))
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
        {
            throw new SpecFormatException(
                field,
                $"{field} '{Text.Shorten(text)}' is not a hexadecimal number; expected up to four digits, for example 8086, or *."
            );
        }

        if (value > 0xffff)
            throw new SpecFormatException(field, $"{field} '{Text.Shorten(text)}' is larger than ffff, the largest PCI id.");
        return new PciId((ushort)value);
    }

    private static (uint Code, uint Mask) Class(string? text)
    {
        if (string.IsNullOrEmpty(text) || text == "*")
            return (0, 0);
        if (text.Length is not (2 or 4 or 6) || !Hex.TryParse(text, out uint value))
        {
            throw new SpecFormatException(
                "classCode",
                $"classCode '{Text.Shorten(text)}' is not a PCI class; expected 2, 4 or 6 hexadecimal digits, for example 0300 for VGA controllers."
            );
        }

        int shift = (6 - text.Length) * 4;
        return (value << shift, (0xffffffu >> shift) << shift);
    }
}
