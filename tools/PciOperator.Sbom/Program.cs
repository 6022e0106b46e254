using PciOperator.Sbom;

// Writes the bill of materials of one program in its image to standard output.
if (args.Length is not (2 or 3))
{
    Console.Error.WriteLine("usage: PciOperator.Sbom PROJECT_FOLDER RUNTIME_IDENTIFIER [ROOT_FOLDER_OF_THE_BASE_IMAGE]");
    return 2;
}

try
{
    var bill = new BillOfMaterials(args[0], args[1], args.Length == 3 ? args[2] : null);
    using Stream output = Console.OpenStandardOutput();
    bill.Write(output);
    return 0;
}
catch (InvalidDataException e)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}
