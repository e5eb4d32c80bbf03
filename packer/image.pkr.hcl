# Boots a seed under QEMU, lets pyinfra apply the deploys in build mode over SSH, seals it and powers off.
# Written for Packer 1.6 (Debian 12) and for today's; newer ones also need plugins.pkr.hcl beside it.
# Every value comes from hpcstate (hpcstate/image/packer.py); nothing here is edited by hand.

variable "name"        { type = string }
variable "seed"        { type = string }
variable "output"      { type = string }
variable "accelerator" { type = string }
variable "cpu"         { type = string }
variable "ssh_port"    { type = number }
variable "ssh_key"     { type = string }
variable "cidata"      { type = string }
variable "deploy"      { type = string }
variable "seal"        { type = string }
variable "word"        { type = string }
variable "qemu"        { type = string }

source "qemu" "image" {
  qemu_binary      = var.qemu
  iso_url          = var.seed
  iso_checksum     = "none"
  disk_image       = true
  skip_resize_disk = true
  output_directory = var.output
  vm_name          = "${var.name}.qcow2"
  format           = "qcow2"
  skip_compaction  = true
  disk_interface   = "virtio"
  disk_cache       = "unsafe"
  disk_discard     = "unmap"
  net_device       = "virtio-net"
  accelerator      = var.accelerator
  headless         = true
  cpus             = 2
  memory           = 2048
  boot_wait        = "1s"
  qemuargs = [
    ["-cpu", var.cpu],
    ["-serial", "file:${var.output}.console"],
    ["-drive", "file=${var.output}/${var.name}.qcow2,if=virtio,cache=unsafe,discard=unmap,format=qcow2"],
    ["-drive", "file=${var.cidata},if=virtio,format=raw,readonly=on"],
  ]
  host_port_min        = var.ssh_port
  host_port_max        = var.ssh_port
  ssh_host_port_min    = var.ssh_port
  ssh_host_port_max    = var.ssh_port
  ssh_username         = "packer"
  ssh_private_key_file = var.ssh_key
  ssh_timeout          = "10m"
  shutdown_command     = "sudo sh /var/tmp/seal.sh ${var.word}"
  shutdown_timeout     = "5m"
}

build {
  sources = ["source.qemu.image"]

  provisioner "shell-local" {
    inline = [var.deploy]
  }

  provisioner "file" {
    source      = var.seal
    destination = "/var/tmp/seal.sh"
  }
}
